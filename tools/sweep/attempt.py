"""One type: its class at its default configuration, example inputs, a split run with each map.

Everything goes the way of ``devplan check``; only the two maps are made here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from devplan.checker.preparation import Built, build, context_of
from devplan.checker.results import result_of
from devplan.checker.run_options import RunOptions
from devplan.checker.running import run_prepared
from devplan.core.device_map import DeviceMap
from devplan.core.errors import InputError
from devplan.core.findings import CheckResult, Finding, MismatchEvent, RunRecord
from devplan.core.types import Machine
from devplan.core.workload import Workload
from devplan.inputs.probe import describe
from devplan.inputs.request import InputRequest
from devplan.rules.context import CheckContext
from devplan.rules.mismatches import MismatchKind, mismatch_kind
from devplan.virtual.calls import has_forward
from tools.sweep.maps import machine_for, maps_of
from tools.sweep.row import FoundMismatch, MapRow, Row, Stage
from tools.sweep.usable import usable_config

MISMATCHES = {
    MismatchKind.MISMATCH: "DP301",
    MismatchKind.STRAY: "DP303",
    MismatchKind.CACHE: "DP304",
}
"""What goes wrong where tensors meet on two devices, and the rule that reports it."""

REQUEST = InputRequest()
"""One sequence of 64 tokens, an image, a sound, as far as the model takes them."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to attempt."""

    model_type: str
    class_name: str
    dtype: str = "bfloat16"
    layers: int | None = None
    """Layers to which every stack is cut; None: the default size."""
    run: str = "auto"
    """``auto``, or ``forward`` where ``generate`` is not to be called."""


def attempt(task: Task) -> Row:
    """The row of one type; whatever raises is part of it."""
    started = time.monotonic()
    row = Row(
        model_type=task.model_type,
        class_name=task.class_name,
        changed=changes_of(task),
        stage=Stage.BUILD,
    )
    try:
        row = _attempt(task, row)
    except MemoryError as error:
        row = replace(row, stage=Stage.MEMORY, reason=describe(error))
    except ImportError as error:
        row = replace(row, stage=Stage.PACKAGE, reason=describe(error))
    except Exception as error:  # a model's own code can raise anything
        row = replace(row, reason=describe(error))
    return replace(row, seconds=round(time.monotonic() - started, 1))


def _attempt(task: Task, row: Row) -> Row:
    try:
        config = usable_config(task.model_type, task.layers)
        config.architectures = [task.class_name]
        request = Workload(dtype=task.dtype)
        built = build(config, request, trust_remote_code=False)
    except InputError as error:
        missing = isinstance(error.__cause__, ImportError)
        return replace(row, stage=Stage.PACKAGE if missing else Stage.BUILD, reason=str(error))
    if not has_forward(built.skeleton.model):
        return replace(row, stage=Stage.NO_FORWARD)
    machine = machine_for(built)
    for name, given in maps_of(built, machine):
        row = _run(task, row, name, given, built, machine)
        if row.stage is not Stage.RAN:
            break
    return row


def changes_of(task: Task) -> tuple[str, ...]:
    """How a task differs from the default, in words."""
    changes = []
    if task.dtype != Task.dtype:
        changes.append(f"in {task.dtype}")
    if task.layers is not None:
        changes.append(f"with {task.layers} layers")
    if task.run != Task.run:
        changes.append(f"{task.run} only")
    return tuple(changes)


def _run(task: Task, row: Row, name: str, given: DeviceMap, built: Built, machine: Machine) -> Row:
    subject = context_of(built, given, machine=machine)
    record, reason = run_prepared(subject, RunOptions(request=REQUEST, run=task.run))
    if record is None:
        return replace(row, stage=Stage.INPUTS, reason=reason)
    subject = replace(subject, runs=(record,))
    item = MapRow(
        name=name,
        num_devices=len(subject.devices),
        phases=record.phases,
        error=_error(record),
        findings=findings_of(subject, result_of(subject)),
    )
    notes = tuple(dict.fromkeys((*row.notes, *record.notes)))
    row = replace(
        row,
        inputs=record.inputs,
        notes=notes,
        maps=(*row.maps, item),
        generated=_generated(record),
    )
    if item.error:
        return replace(row, stage=Stage.RUN, reason=item.error)
    return replace(row, stage=Stage.RAN)


def _generated(record: RunRecord) -> bool:
    """Whether ``generate`` was called: the phase of a bare ``forward`` has its name."""
    reached = (*record.phases, *([record.error.phase] if record.error else []))
    return "forward" not in reached


def _error(record: RunRecord) -> str:
    error = record.error
    if error is None:
        return ""
    return f"{error.type}: {error.message[:200]} at {error.source} ({error.phase})"


def findings_of(subject: CheckContext, result: CheckResult) -> tuple[FoundMismatch, ...]:
    """Every line and op at which tensors met, with the rule and the words of its diagnostic.

    A diagnostic names one op and all of its lines; the op of each line is in the run.
    """
    events = [event for run in subject.runs for event in run.mismatches]
    told = {event: _diagnostic_of(event, subject, result) for event in events}
    return tuple(sorted({_finding(event, one) for event, one in told.items() if one is not None}))


def _diagnostic_of(
    event: MismatchEvent, subject: CheckContext, result: CheckResult
) -> FoundMismatch | None:
    """The one that begins with this event, or else one that shows at its line."""
    code = MISMATCHES.get(mismatch_kind(event, subject))
    here = [
        one
        for one in result.errors
        if one.code == code and event.source in (one.source, *one.also_at)
    ]
    own = [one for one in here if (one.source, one.op) == (event.source, event.op)]
    return next(iter(own or here), None)


def _finding(event: MismatchEvent, diagnostic: Finding) -> FoundMismatch:
    source = event.source
    return FoundMismatch(
        file=source.file if source else "",
        line=source.line if source else 0,
        op=event.op,
        code=diagnostic.code,
        module=event.module,
        text=source.text if source else "",
        message=diagnostic.message,
    )
