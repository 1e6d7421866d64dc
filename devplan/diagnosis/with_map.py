"""A pasted failure together with the map and the model's class: entry, modules, devplan's check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from devplan.checker import RunOptions, prepare, result_of, run_all
from devplan.core import (
    CheckResult,
    DeviceUsage,
    DevplanError,
    Entry,
    Finding,
    Fix,
    InputError,
    SourceLine,
    format_bytes,
)
from devplan.diagnosis.failure_report import Confirmation, FailureKind, FailureReport
from devplan.diagnosis.fixes import CommandFacts, by_entries, in_words
from devplan.diagnosis.from_text import TextFailure
from devplan.diagnosis.lines import modules_of
from devplan.mapfile import as_device_map
from devplan.rules import CheckContext, counted, device_loads, is_embedding_away
from devplan.sandbox import exclusively

_MOST_ENTRIES = 3
_BORROWED = "the tensors are those of the check's own inputs"


@dataclass(frozen=True, kw_only=True, eq=False)
class MappedModel:
    """What is known of the model and its map."""

    model: nn.Module
    """Without weights."""
    checked: CheckedMap
    known: CommandFacts

    @classmethod
    def of(cls, map: Any, model: str | None, *, trust_remote_code: bool) -> MappedModel:
        """Build the model without its weights, and check the map.

        Raises
        ------
        InputError
            When the map cannot be read, nobody says which model it is for, or it cannot be built.
        """
        given = as_device_map(map)
        name = model or given.model
        if name is None:
            raise InputError(f"{given.name} does not name its model; give --model")
        subject = prepare(name, given, trust_remote_code=trust_remote_code)
        known = CommandFacts(
            model=str(name),
            map=given.file,
            machine=subject.machine,
            main_device=subject.main_device,
            context=subject.workload.context,
            images=given.workload.images if given.workload else None,
            embedding_away=is_embedding_away(subject),
        )
        return cls(model=subject.skeleton.model, checked=checked(subject), known=known)

    @property
    def subject(self) -> CheckContext:
        return self.checked.subject

    def report_of(self, failure: TextFailure) -> FailureReport:
        """The report with entry, modules, the check's answer, and fixes."""
        report = failure.report
        modules = self._modules(failure)
        lines = [place.source for place in failure.places]
        confirmed = confirmation(self.checked, lines, report)
        entries = tuple(self._entries(modules, report, failure.recognised.facts.get("name", "")))
        report = replace(
            report,
            modules=modules,
            entry=entries[0] if len(entries) == 1 else None,
            confirmation=confirmed,
            map_entries=confirmed.entries,
            cards=_with_predictions(report, self.checked.loads),
            notes=(*report.notes, *self._other_model(failure, modules)),
        )
        if confirmed.finding is not None:
            report = self._with_finding(report, confirmed, confirmed.finding)
        else:
            report = replace(report, notes=(*report.notes, *_several(entries)))
        return in_words(report, failure.recognised, self.known)

    def _modules(self, failure: TextFailure) -> tuple[str, ...]:
        """Modules that the innermost frame may have been in, on devices of the message if any."""
        modules = modules_of(failure.places, self.model)
        devices = failure.report.devices
        on_them = tuple(name for name in modules if self.subject.device_of(name) in devices)
        return on_them or modules

    def _other_model(self, failure: TextFailure, modules: Sequence[str]) -> tuple[str, ...]:
        """Where no frame is of a class that this model has, say so."""
        classes = [kind for place in failure.places for kind in place.classes]
        if modules or not classes:
            return ()
        name = self.subject.structure.class_name
        return (f"{name} has no module of class {classes[-1]}: is it the map of this model?",)

    def _entries(self, modules: Sequence[str], report: FailureReport, name: str) -> Iterator[Entry]:
        """The entries that govern these modules, or that the message names, each once."""
        named = [
            entry for entry in self.subject.map.entries if entry.key and f"'{entry.key}'" in name
        ]
        if named:
            yield from named
            return
        of_name = self.subject.entry_of(name) if name in self.subject.structure.tensors else None
        governing = [of_name] if of_name else [self.subject.entry_of(each) for each in modules]
        yield from dict.fromkeys(entry for entry in governing if entry is not None)

    def _with_finding(
        self, report: FailureReport, confirmed: Confirmation, finding: Finding
    ) -> FailureReport:
        """What the check knows better than the text."""
        structure = self.subject.structure
        patch = by_entries(finding.fix.changed_entries, self.subject)[1:]
        fix = Fix(text=finding.fix.text, changed_entries=finding.fix.changed_entries)
        module = finding.module if finding.source is not None else report.module
        borrowed = finding.tensors and not report.tensors
        return replace(
            report,
            op=report.op or finding.op,
            module=module,
            module_class=structure.modules.get(module) if module is not None else None,
            modules=() if module is not None else report.modules,
            tensors=report.tensors or finding.tensors,
            entry=finding.entry or report.entry,
            fixes=(fix, *patch) if finding.fix.text else patch,
            notes=(*report.notes, *((_BORROWED,) if borrowed else ())),
        )


def _with_predictions(report: FailureReport, loads: Mapping[str, int]) -> tuple[DeviceUsage, ...]:
    """Memory as the text says it, beside what the map needs."""
    said = {card.device: card for card in report.cards}
    if report.kind is not FailureKind.MEMORY:
        return report.cards
    return tuple(
        replace(said.get(device, DeviceUsage(device=device)), predicted_bytes=loads.get(device))
        for device in sorted({*said, *loads})
    )


def _several(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Where it may have been one of several entries, say so."""
    if len(entries) < 2:
        return ()
    shown = ", ".join(f"{entry.key}: {entry.written}" for entry in entries[:_MOST_ENTRIES])
    more = len(entries) - _MOST_ENTRIES
    rest = f" and {more} more" if more > 0 else ""
    return (f"the text does not say which of {len(entries)} entries it was: {shown}{rest}",)


# The check runs as ``devplan check MAP`` would run it.  A finding matches a failure when both are
# at one line of code or, for a finding without a line, when its rule is the one of the message.


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckedMap:
    """A map that was checked."""

    subject: CheckContext
    """With what was run."""
    result: CheckResult | None
    """None: the check could not be run."""
    reason: str = ""
    """Why not."""

    @property
    def loads(self) -> Mapping[str, int]:
        """Device -> bytes that the workload of the map needs there, without the reserve."""
        return {device: load.peak_bytes for device, load in device_loads(self.subject).items()}


@exclusively
def checked(prepared: CheckContext) -> CheckedMap:
    """Run the check of a map."""
    try:
        subject = run_all(prepared, RunOptions())
    except DevplanError as error:
        return CheckedMap(subject=prepared, result=None, reason=str(error))
    return CheckedMap(subject=subject, result=result_of(subject))


def confirmation(
    done: CheckedMap, lines: Sequence[SourceLine], report: FailureReport
) -> Confirmation:
    """What the check says of a failure at these lines, the innermost last, or of its rule."""
    if done.result is None:
        return Confirmation(ran=False, detail=f"could not be run: {done.reason}")
    at_line = _at_lines(done.result, lines)
    if at_line is not None:
        how = "finds the same line" if at_line.source in lines else "finds the same code"
        said = f"{how}, {at_line.source}: {at_line.code} {at_line.message}"
        return _found(done.result, at_line, said)
    by_rule = _by_rule(done.result, report.rule, set(report.devices))
    if by_rule is not None:
        return _found(done.result, by_rule, f"finds it: {by_rule.code} {by_rule.message}")
    if report.kind is FailureKind.MEMORY:
        return _found(done.result, None, _enough_memory(done, report.devices))
    return _found(done.result, None, _nothing(done.result))


def _enough_memory(done: CheckedMap, devices: Sequence[str]) -> str:
    """What the map needs on the cards of the message, and what follows from that."""
    machine, workload = done.subject.machine, done.subject.workload
    named = [device for device in done.loads if device in devices] or list(done.loads)
    needs = ", ".join(f"{format_bytes(done.loads[each])} on {each}" for each in named)
    asked = f"at batch {workload.batch} and {workload.tokens:,} tokens it needs {needs}"
    if machine is None:
        return f"{asked}; the map does not give the size of the GPUs"
    return f"{asked}, and the GPUs hold that: the call was larger, or something else is there"


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
