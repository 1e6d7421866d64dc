"""A repair as lines of a diff of the map, and counts in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from devplan.checker import diff_lines
from devplan.core import CheckResult, Entry, Finding
from devplan.io import shown, visible


def change_lines(diagnostic: Finding, entries: Iterable[Entry]) -> list[str]:
    """``- model: 1`` and ``+ model: 0`` for every entry that the repair touches."""
    return diff_lines(diagnostic.fix.changed_entries, entries, diagnostic.fix.dropped_entries)


def counts_in_words(counts: Mapping[str, int]) -> str:
    """``2 errors, 1 warning``."""
    words = [
        f"{number} {kind}{'s' if number > 1 else ''}" for kind, number in counts.items() if number
    ]
    return ", ".join(words)


def shown_result(result: CheckResult) -> CheckResult:
    """The result as a person may see it: names of strangers are escaped and short."""
    found = tuple(shown_finding(each, result) for each in result.findings)
    aside = tuple(shown_finding(each, result) for each in result.ignored)
    return shown(replace(result, findings=found, ignored=aside))


def shown_finding(finding: Finding, result: CheckResult) -> Finding:
    """The same for one finding.  Its sentences hold names as they are, which are short first."""
    message, text = finding.message, finding.fix.text
    for name in _unfit_names(result):
        for form in (name, repr(name)[1:-1]):
            message = message.replace(form, visible(name))
            text = text.replace(form, visible(name))
    return shown(replace(finding, message=message, fix=replace(finding.fix, text=text)))


def _unfit_names(result: CheckResult) -> list[str]:
    """Names of this map that cannot be shown as they are, the longest first."""
    names = {result.model, result.class_name, result.map_name}
    for entry in result.entries:
        names |= {entry.key, entry.device or "", entry.written or ""}
    unfit = (name for name in names if name and visible(name) != name)
    return sorted(unfit, key=len, reverse=True)
