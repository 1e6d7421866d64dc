"""A repair as lines of a diff of the map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from devplan.findings import Diagnostic, MapEntry
from devplan.mapfile.hf import to_hf_device


def change_lines(diagnostic: Diagnostic, entries: Iterable[MapEntry]) -> list[str]:
    """``- model: 1`` and ``+ model: 0`` for every entry that the repair touches."""
    old = {entry.key: f"- {entry_line(entry)}" for entry in entries}
    dropped = [old[key] for key in diagnostic.dropped_entries if key in old]
    changed = []
    for key, device in diagnostic.changed_entries.items():
        if key in old and key not in diagnostic.dropped_entries:
            changed.append(old[key])
        changed.append(f"+ {_line(key, to_hf_device(device))}")
    if len(dropped) == len(changed):  # renames: each new name below the old one
        return [line for pair in zip(dropped, changed, strict=True) for line in pair]
    return [*dropped, *changed]


def entry_line(entry: MapEntry) -> str:
    """One entry as the map writes it."""
    return _line(entry.key, entry.written or to_hf_device(entry.device))


def _line(key: str, device: int | str) -> str:
    return f"{key or repr('')}: {device}"


def counts_in_words(counts: Mapping[str, int]) -> str:
    """``2 errors, 1 warning``."""
    words = [
        f"{number} {kind}{'s' if number > 1 else ''}" for kind, number in counts.items() if number
    ]
    return ", ".join(words)
