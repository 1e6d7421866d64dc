"""A repair as lines of a diff of the map, and counts in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from devplan.checks.showing import diff_lines
from devplan.findings import Diagnostic, MapEntry


def change_lines(diagnostic: Diagnostic, entries: Iterable[MapEntry]) -> list[str]:
    """``- model: 1`` and ``+ model: 0`` for every entry that the repair touches."""
    return diff_lines(diagnostic.changed_entries, entries, diagnostic.dropped_entries)


def counts_in_words(counts: Mapping[str, int]) -> str:
    """``2 errors, 1 warning``."""
    words = [
        f"{number} {kind}{'s' if number > 1 else ''}" for kind, number in counts.items() if number
    ]
    return ", ".join(words)
