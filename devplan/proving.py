"""The closed loop: plan, run the plan virtually, take what was found as constraints, plan again.

    plan -> map -> split run -> findings -> lessons -> plan -> ...

A *lesson* is one of four:

* a block has to be on a device (a finding whose remedy is a changed entry);
* two blocks have to be together (code of one works on a tensor of the other);
* a block needs more activations on its card than was counted;
* a block costs less on another device (a warning whose remedy is a changed entry).

The loop ends when the run finds nothing that stops the model, when nothing more can be learnt, or
after `MOST_ROUNDS`.  What was learnt is kept with the finding behind it.  A lesson of the fourth
kind is taken back where the plan with it does not fit, stops, or has as many warnings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from devplan.checks.given import given_map
from devplan.checks.prepare import Built, Prepared
from devplan.checks.run import result_of
from devplan.checks.run_options import RunOptions
from devplan.checks.running import run_all
from devplan.checks.structure import structure_of
from devplan.checks.subject import Subject
from devplan.errors import InputError
from devplan.findings import CheckResult, Diagnostic, RunRecord
from devplan.lessons import Learnt, learn, learn_from_warnings
from devplan.machine import least_capability
from devplan.mapfile import contract_entries
from devplan.mapfile.versions import installed_versions
from devplan.skeleton import Skeleton
from devplan.sources import ModelSource
from devplan.types import (
    BlockGraph,
    Constraint,
    Infeasible,
    Machine,
    Plan,
    Verification,
    Workload,
)

MOST_ROUNDS = 8
"""Each takes a plan and a run, under a second for most models; what cannot be learnt in a few is
not to be learnt from runs."""

MODEL_RAISED = "DP302"
"""An error of the model's own code; no map is at fault where the whole model raises one too."""

PlanWith = Callable[[BlockGraph, Mapping[str, str]], Plan | Infeasible]
"""Plans a graph with pins."""
Examine = Callable[[Plan, BlockGraph], "Examined"]


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A plan that was run virtually."""

    prepared: Prepared
    """The map and the model, as they were run."""
    subject: Subject
    """The same with what the run showed."""
    record: RunRecord | None
    """None: it could not be run."""
    check: CheckResult
    """Everything that was found."""
    errors: tuple[Diagnostic, ...] = ()
    """What of it stops the model on this map."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Where the loop ended."""

    result: Plan | Infeasible
    graph: BlockGraph
    """With what runs taught about activations and about blocks that belong together."""
    verification: Verification
    constraints: tuple[Constraint, ...] = ()
    check: CheckResult | None = None
    """What the last run found; None: nothing was run."""
    errors: tuple[Diagnostic, ...] = ()
    """What of it stops the model; empty when the proof succeeded."""
    cures: tuple[str, ...] = ()
    """What was tried and ran where the proof failed (``devplan.cures``)."""
    examined: Examined | None = None
    """The last run with all that it showed; None: nothing was run."""


def prove(unproven: Proof, pins: Mapping[str, str], plan_with: PlanWith, examine: Examine) -> Proof:
    """Plan until a virtual run finds nothing that stops the model.

    Parameters
    ----------
    unproven
        The first plan.
    pins
        The user's: module -> device.  They win over whatever a run teaches.
    plan_with, examine
        How a graph is planned, and how a plan is run.
    """
    learnt = Learnt(graph=unproven.graph, pins=dict(pins))
    result = unproven.result
    examined = examine(result, learnt.graph)
    for rounds in range(1, MOST_ROUNDS + 1):
        more = learn(learnt, result, examined.subject, examined.record, examined.errors)
        if more is None or rounds == MOST_ROUNDS:
            break
        learnt = more
        result = _planned(plan_with, learnt)
        if isinstance(result, Infeasible):
            return _infeasible(result, learnt)
        examined = examine(result, learnt.graph)
    learnt, result, examined = _with_fewer_warnings(learnt, result, examined, plan_with, examine)
    return Proof(
        result=_with_reasons(result, learnt, pins),
        graph=learnt.graph,
        verification=_verification(result, examined),
        constraints=learnt.constraints,
        check=examined.check,
        errors=examined.errors,
        examined=examined,
    )


def _with_fewer_warnings(
    learnt: Learnt, result: Plan, examined: Examined, plan_with: PlanWith, examine: Examine
) -> tuple[Learnt, Plan, Examined]:
    """What ``devplan check --strict`` would have moved is moved, where that leaves less to say."""
    for _ in range(MOST_ROUNDS):
        more = None if examined.errors else learn_from_warnings(learnt, examined.check.warnings)
        if more is None:
            break
        planned = _planned(plan_with, more)
        if isinstance(planned, Infeasible):
            break
        tried = examine(planned, more.graph)
        if tried.errors or len(tried.check.warnings) >= len(examined.check.warnings):
            break
        learnt, result, examined = more, planned, tried
    return learnt, result, examined


NOTHING_TO_RUN = Verification(status="unverified", detail="nothing fits, so nothing was run")


def _planned(plan_with: PlanWith, learnt: Learnt) -> Plan | Infeasible:
    try:
        return plan_with(learnt.graph, learnt.pins)
    except InputError as error:  # a lesson that contradicts the user's pins
        return Infeasible(reason=str(error), shortfalls=(), lower_bound=0.0, proven=False)


def _infeasible(result: Infeasible, learnt: Learnt) -> Proof:
    """Nothing fits that keeps to what was learnt."""
    kept = "; ".join(f"{each.change} ({each.finding})" for each in learnt.constraints)
    reason = f"{result.reason}; the model's code needs: {kept}"
    return Proof(
        result=replace(result, reason=reason),
        graph=learnt.graph,
        verification=NOTHING_TO_RUN,
        constraints=learnt.constraints,
    )


def _with_reasons(plan: Plan, learnt: Learnt, pins: Mapping[str, str]) -> Plan:
    """Pins that a run asked for carry its finding, not the word ``user``."""
    why = {block: text for block, text in learnt.reasons.items() if block not in pins}
    return replace(
        plan,
        pins=tuple(
            replace(pin, reason=why[pin.block]) if pin.block in why else pin for pin in plan.pins
        ),
    )


def _verification(plan: Plan, examined: Examined) -> Verification:
    record = examined.record
    if record is None:
        return Verification(status="unverified", detail=f"not run: {examined.subject.not_run}")
    peaks = card_peaks(plan, record)
    ran = f"{', '.join(record.phases) or 'nothing'} {_at(examined)} with {record.inputs}"
    if examined.errors:
        first = examined.errors[0]
        place = f" at {first.source}" if first.source else ""
        return Verification(
            status="findings",
            detail=f"ran {ran}: {first.code}{place}: {first.message}",
            peak_bytes=peaks,
        )
    if record.error is not None:
        place = f" at {record.error.source}" if record.error.source else ""
        return Verification(
            status="unverified",
            detail=f"the model's code raised {record.error.type} on inputs that devplan made"
            f"{place} ({record.error.phase}): {record.error.message[:200]}",
            peak_bytes=peaks,
        )
    phases = phase_peaks(plan, record) if examined.subject.structure.graph.components else {}
    versions = examined.subject.installed
    libraries = ", ".join(f"{name} {versions[name]}" for name in _RAN_WITH if name in versions)
    return Verification(
        status="clean",
        detail=f"ran {ran}: nothing that stops the model; {libraries}",
        peak_bytes=peaks,
        phase_bytes=phases,
    )


def _at(examined: Examined) -> str:
    """The workload that ran, for which alone the run is a proof."""
    workload, cut = examined.subject.workload, examined.record.cut_to_tokens
    asked = f"at {workload.context_tokens:,} tokens x batch {workload.batch}"
    return asked if cut is None else f"at {cut} tokens instead of {asked.removeprefix('at ')}"


_RAN_WITH = ("transformers", "accelerate", "diffusers")


def card_peaks(plan: Plan, record: RunRecord) -> dict[str, int]:
    """Card -> load of the plan, and what the run needed beside weights, also onloaded ones, and
    cache."""
    rest = {
        peak.device: peak.peak_bytes - peak.weight_bytes - peak.cache_bytes for peak in record.peaks
    }
    return {
        load.device: load.load_bytes + max(rest.get(load.device, 0) - load.onload_bytes, 0)
        for load in plan.loads
    }


def phase_peaks(plan: Plan, record: RunRecord) -> dict[str, dict[str, int]]:
    """Phase -> card -> load of the plan, and the most that ran beside it in the phase."""
    loads = {load.device: load.load_bytes for load in plan.loads}
    found = {phase: dict(loads) for phase in record.phases}
    for item in record.activations:
        if item.phase in found and item.device in loads:
            peaks = found[item.phase]
            full = loads[item.device] + item.num_bytes
            peaks[item.device] = max(peaks[item.device], full)
    return found


# --------------------------------------------------------------------------------- examining


@dataclass(frozen=True, kw_only=True, eq=False)
class Examiner:
    """Runs plans of one model on one machine."""

    source: ModelSource
    skeleton: Skeleton
    machine: Machine
    workload: Workload
    """Of plans that do not say theirs."""
    packed: bool = False
    """Whether quantized weights count as they are stored."""
    raises_whole: bool = False
    """Whether the model's code raises on one card too, on the inputs that devplan makes."""
    options: RunOptions = field(default_factory=RunOptions)

    def __call__(self, plan: Plan, graph: BlockGraph) -> Examined:
        """Run a plan and judge it as ``devplan check`` would."""
        structure = structure_of(
            self.skeleton,
            self.source,
            graph,
            least_capability=least_capability(self.machine),
            packed=self.packed,
        )
        subject = Subject(
            model=self.source.id,
            structure=structure,
            given=given_map(contract_entries(plan.placement)),
            machine=self.machine,
            main_device=self.machine.main_device,
            stated_main=True,
            workload=plan.workload or self.workload,
            installed=installed_versions(self.source.library),
        )
        built = Built(
            source=self.source,
            skeleton=self.skeleton,
            structure=structure,
            workload=subject.workload,
        )
        prepared = Prepared(subject=subject, built=built)
        subject = run_all(prepared, self.options)
        record = subject.runs[0] if subject.runs else None
        check = result_of(subject)
        forgiven = MODEL_RAISED if self.raises_whole else ""
        errors = tuple(error for error in check.errors if error.code != forgiven)
        return Examined(
            prepared=prepared, subject=subject, record=record, check=check, errors=errors
        )
