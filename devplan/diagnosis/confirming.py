"""What devplan's own check says about the place of a pasted failure.

The check is run as ``devplan check MAP`` would run it.  A finding is the same when it is at the
same line of code, or, where a finding has no line, when its rule is the one of the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from devplan.checking import RunOptions, run_prepared
from devplan.checks.places import counted
from devplan.checks.prepare import Prepared
from devplan.checks.run import result_of
from devplan.diagnosis.story import Confirmation
from devplan.errors import DevplanError
from devplan.findings import CheckResult, Diagnostic, SourceLine


def checked(prepared: Prepared) -> CheckResult | str:
    """The result of the check, or why it could not be run."""
    try:
        record, reason = run_prepared(prepared, RunOptions())
    except DevplanError as error:
        return str(error)
    runs = (record,) if record is not None else ()
    return result_of(replace(prepared.subject, runs=runs, not_run=reason))


def confirmation(
    result: CheckResult | str, lines: Sequence[SourceLine], rule: str | None, devices: Iterable[str]
) -> Confirmation:
    """What the check says of a failure at a line, innermost last, or of a rule."""
    if isinstance(result, str):
        return Confirmation(ran=False, detail=f"could not be run: {result}")
    at_line = _at_lines(result, lines)
    if at_line is not None:
        how = "finds the same line" if at_line.source in lines else "finds the same code"
        return _found(result, at_line, f"{how}, {at_line.source}: {at_line.code} {at_line.message}")
    by_rule = _by_rule(result, rule, set(devices))
    if by_rule is not None:
        return _found(result, by_rule, f"finds it: {by_rule.code} {by_rule.message}")
    return _found(result, None, _nothing(result))


def _found(result: CheckResult, finding: Diagnostic | None, detail: str) -> Confirmation:
    return Confirmation(
        ran=bool(result.runs), detail=detail, finding=finding, entries=result.entries
    )


def _nothing(result: CheckResult) -> str:
    ran = ", ".join(result.runs[0].phases) if result.runs else ""
    found = counted(len(result.errors), "error")
    if not ran:
        return f"nothing was run, so that no line is known; {found} in the map itself"
    return (
        f"ran {ran} with {result.runs[0].inputs} and does not find this line ({found}): the "
        "failure needs other inputs, arguments or versions than the check had"
    )


def _at_lines(result: CheckResult, lines: Sequence[SourceLine]) -> Diagnostic | None:
    """The finding at the innermost line that one is at; by its text where numbers differ."""
    located = [finding for finding in result.diagnostics if finding.source is not None]
    for line in reversed(lines):
        for finding in located:
            if (finding.source.file, finding.source.line) == (line.file, line.line):
                return finding
        for finding in located:
            if line.text and _code(finding.source) == _code(line):
                return finding
    return None


def _code(line: SourceLine) -> tuple[str, str, str]:
    return line.file, line.function, line.text


def _by_rule(result: CheckResult, rule: str | None, devices: set[str]) -> Diagnostic | None:
    named = [f for f in result.diagnostics if f.code == rule and f.source is None]
    on_device = [f for f in named if f.entry and f.entry.device in devices]
    return next(iter(on_device or ([] if devices else named)), None)
