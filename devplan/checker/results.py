"""All rules over one context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from devplan.core import CheckResult, Finding, Severity
from devplan.rules import RULES, CheckContext, spelled_out

UNFINISHED = ("DP302", "DP901", "DP905")
"""Rules that say that a call did not run, or not to its end."""

_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


def _found(context: CheckContext) -> tuple[Finding, ...]:
    """What all rules find, the worst first, then by code and line of the map."""
    found = [_loadable(d, context) for rule in RULES.values() for d in rule.check(context)]
    return tuple(sorted(found, key=_place))


def _loadable(diagnostic: Finding, context: CheckContext) -> Finding:
    """The finding with a repair that loads and runs: no exceptions inside placed modules."""
    fix = diagnostic.fix
    if not fix.changed_entries or fix.dropped_entries:
        return diagnostic
    changed, dropped = spelled_out(fix.changed_entries, context)
    return replace(diagnostic, fix=replace(fix, changed_entries=changed, dropped_entries=dropped))


def result_of(context: CheckContext) -> CheckResult:
    """The findings with the map and the runs that they come from."""
    return CheckResult(
        map_name=context.map.name,
        model=context.model,
        class_name=context.structure.class_name,
        findings=_found(context),
        entries=context.map.entries,
        runs=context.runs,
        missed=context.missed,
        versions=context.installed,
    )


def _place(diagnostic: Finding) -> tuple[int, str, int]:
    line = diagnostic.entry.line if diagnostic.entry and diagnostic.entry.line else 0
    return _ORDER[diagnostic.severity], diagnostic.code, line


def strictly(result: CheckResult) -> CheckResult:
    """The result with its warnings taken as errors."""
    return _raised(result, lambda finding: True)


def requiring_runs(result: CheckResult) -> CheckResult:
    """The result with every call that did not run to its end taken as an error."""
    return _raised(result, lambda finding: finding.code in UNFINISHED)


def _raised(result: CheckResult, counts: Callable[[Finding], bool]) -> CheckResult:
    """The result with some of its warnings taken as errors."""
    return replace(
        result,
        findings=tuple(
            replace(d, severity=Severity.ERROR)
            if d.severity is Severity.WARNING and counts(d)
            else d
            for d in result.findings
        ),
    )
