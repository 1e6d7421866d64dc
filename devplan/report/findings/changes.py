"""A repair as lines of a diff of the map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from devplan.findings import Diagnostic, MapEntry
from devplan.mapfile.hf import to_hf_device


def change_lines(diagnostic: Diagnostic, entries: Iterable[MapEntry]) -> list[str]:
    """``- model: 1`` and ``+ model: 0`` for every entry that the repair touches."""
    devices = {entry.key: entry.device for entry in entries}
    lines = []
    for key in diagnostic.dropped_entries:
        if key in devices:
            lines.append(f"- {entry_line(key, devices[key])}")
    for key, device in diagnostic.changed_entries.items():
        if key in devices and key not in diagnostic.dropped_entries:
            lines.append(f"- {entry_line(key, devices[key])}")
        lines.append(f"+ {entry_line(key, device)}")
    return lines


def entry_line(key: str, device: str) -> str:
    """One entry as a map writes it."""
    return f"{key or repr('')}: {to_hf_device(device)}"


def counts_in_words(counts: Mapping[str, int]) -> str:
    """``2 errors, 1 warning``."""
    words = [
        f"{number} {kind}{'s' if number > 1 else ''}" for kind, number in counts.items() if number
    ]
    return ", ".join(words)
