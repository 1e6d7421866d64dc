"""What devplan's own check says about the place of a pasted failure.

The check is run as ``devplan check MAP`` would run it.  A finding is the same when it is at the
same line of code, or, where a finding has no line, when its rule is the one of the message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from devplan.checker import Prepared, RunOptions, result_of, run_all
from devplan.core import CheckResult, DevplanError, Finding, SourceLine, format_bytes
from devplan.diagnosis.failure_report import Confirmation, FailureReport, Kind
from devplan.rules import CheckContext, counted, device_loads
from devplan.sandbox import exclusively


@dataclass(frozen=True, kw_only=True, eq=False)
class Checked:
    """A map that was checked."""

    subject: CheckContext
    """With what was run."""
    result: CheckResult | None
    """None: the check could not be run."""
    reason: str = ""
    """Why not."""

    @property
    def loads(self) -> Mapping[str, int]:
        """Device -> bytes that the workload of the map needs there, the reserve aside."""
        return {
            device: load.static_bytes + load.peak_bytes
            for device, load in device_loads(self.subject).items()
        }


@exclusively
def checked(prepared: Prepared) -> Checked:
    """Run the check of a map."""
    try:
        subject = run_all(prepared, RunOptions())
    except DevplanError as error:
        return Checked(subject=prepared.subject, result=None, reason=str(error))
    return Checked(subject=subject, result=result_of(subject))


def confirmation(done: Checked, lines: Sequence[SourceLine], story: FailureReport) -> Confirmation:
    """What the check says of a failure at these lines, the innermost last, or of its rule."""
    if done.result is None:
        return Confirmation(ran=False, detail=f"could not be run: {done.reason}")
    at_line = _at_lines(done.result, lines)
    if at_line is not None:
        how = "finds the same line" if at_line.source in lines else "finds the same code"
        said = f"{how}, {at_line.source}: {at_line.code} {at_line.message}"
        return _found(done.result, at_line, said)
    by_rule = _by_rule(done.result, story.rule, set(story.devices))
    if by_rule is not None:
        return _found(done.result, by_rule, f"finds it: {by_rule.code} {by_rule.message}")
    if story.kind is Kind.MEMORY:
        return _found(done.result, None, _enough_memory(done, story.devices))
    return _found(done.result, None, _nothing(done.result))


def _enough_memory(done: Checked, devices: Sequence[str]) -> str:
    """What the map needs on the cards of the message, and what follows from that."""
    machine, workload = done.subject.machine, done.subject.workload
    named = [device for device in done.loads if device in devices] or list(done.loads)
    needs = ", ".join(f"{format_bytes(done.loads[each])} on {each}" for each in named)
    asked = f"at batch {workload.batch} and {workload.context_tokens:,} tokens it needs {needs}"
    if machine is None:
        return f"{asked}; the map does not say how large the cards are"
    return f"{asked}, and the cards hold that: the call was larger, or something else is there"


def _found(result: CheckResult, finding: Finding | None, detail: str) -> Confirmation:
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


def _at_lines(result: CheckResult, lines: Sequence[SourceLine]) -> Finding | None:
    """The finding at the innermost line that one is at; by its text where numbers differ."""
    located = [
        (finding, source)
        for finding in result.findings
        for source in (finding.source, *finding.also_at)
        if source is not None
    ]
    for line in reversed(lines):
        for finding, source in located:
            if (source.file, source.line) == (line.file, line.line):
                return replace(finding, source=source)
        for finding, source in located:
            if line.text and _code(source) == _code(line):
                return replace(finding, source=source)
    return None


def _code(line: SourceLine) -> tuple[str, str, str]:
    return line.file, line.function, line.text


def _by_rule(result: CheckResult, rule: str | None, devices: set[str]) -> Finding | None:
    named = [f for f in result.findings if f.code == rule and f.source is None]
    on_device = [f for f in named if f.entry and f.entry.device in devices]
    return next(iter(on_device or ([] if devices else named)), None)
