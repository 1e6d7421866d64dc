"""All rules over one subject."""

from __future__ import annotations

from dataclasses import replace

from devplan.checks.subject import Subject
from devplan.checks.table import RULES
from devplan.findings import CheckResult, Diagnostic, Severity

_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


def find(subject: Subject) -> tuple[Diagnostic, ...]:
    """What all rules find, the worst first, then by code and line of the map."""
    found = [diagnostic for rule in RULES.values() for diagnostic in rule.check(subject)]
    return tuple(sorted(found, key=_place))


def result_of(subject: Subject) -> CheckResult:
    """The findings with the map and the runs that they come from."""
    return CheckResult(
        map_name=subject.given.name,
        model=subject.model,
        class_name=subject.structure.class_name,
        diagnostics=find(subject),
        entries=tuple(subject.given.map_entry(entry) for entry in subject.given.entries),
        runs=subject.runs,
        versions=subject.installed,
    )


def _place(diagnostic: Diagnostic) -> tuple[int, str, int]:
    line = diagnostic.entry.line if diagnostic.entry and diagnostic.entry.line else 0
    return _ORDER[diagnostic.severity], diagnostic.code, line


def strictly(result: CheckResult) -> CheckResult:
    """The result with its warnings taken as errors."""
    return replace(
        result,
        diagnostics=tuple(
            replace(d, severity=Severity.ERROR) if d.severity is Severity.WARNING else d
            for d in result.diagnostics
        ),
    )
