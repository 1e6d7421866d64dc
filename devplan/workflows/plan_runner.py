"""A plan is run virtually and judged as ``devplan check`` would judge it.

What ran, what it found and what it does not prove is the `Verification` of a map.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from devplan.checker import FEW_TOKENS, RunOptions, result_of, run_all, structure_of
from devplan.core import (
    BlockGraph,
    CheckResult,
    Constraint,
    Finding,
    Infeasible,
    Machine,
    Plan,
    RunRecord,
    Verification,
    Workload,
    device_map_of,
    ensure,
)
from devplan.machine import least_capability
from devplan.mapfile import contract_entries, installed_versions
from devplan.models import ModelSource
from devplan.rules import CheckContext
from devplan.virtual import can_generate, has_forward
from devplan.workflows.profiled_model import ProfiledModel

MODEL_RAISED = "DP302"
"""An error of the model's own code; no map is at fault where the whole model raises one too."""


FORETOLD = Verification(status="unverified", detail="planned, not run")


@dataclass(frozen=True, kw_only=True)
class VerifiedPlan:
    """A plan, or why there is none, and what its virtual run showed."""

    result: Plan | Infeasible
    graph: BlockGraph
    """With what runs taught about activations and about blocks that belong together."""
    verification: Verification = FORETOLD
    constraints: tuple[Constraint, ...] = ()
    """What runs taught the planner."""
    context: CheckContext | None = None
    """The map and the model with what the run showed; None: nothing was run."""
    check: CheckResult | None = None
    """Everything that was found; None: nothing was run."""
    errors: tuple[Finding, ...] = ()
    """What of it stops the model on this map."""
    cures: tuple[str, ...] = ()
    """What was tried and ran where no plan runs (``devplan.workflows.fallbacks``)."""

    @property
    def plan(self) -> Plan:
        ensure(isinstance(self.result, Plan), "asked for the plan where nothing fits")
        return self.result

    @property
    def record(self) -> RunRecord | None:
        """The run at the workload; None: it could not be run."""
        return self.context.runs[0] if self.context and self.context.runs else None

    @property
    def workload(self) -> Workload:
        ensure(self.plan.workload is not None, "plans of the planner say what they are for")
        return self.plan.workload

    @property
    def is_proven(self) -> bool:
        return self.verification.status == "clean"


@dataclass(frozen=True, kw_only=True, eq=False)
class PlanRunner:
    """Runs plans of one model on one machine."""

    model: ProfiledModel
    machine: Machine
    source: ModelSource
    """Says how the weights that are planned for are stored: the model's own, or quantized."""

    @property
    def options(self) -> RunOptions:
        return RunOptions(run=self.model.run, inputs=self.model.skeleton.own_inputs)

    def __call__(self, plan: Plan, graph: BlockGraph) -> VerifiedPlan:
        """Run a plan and judge it as ``devplan check`` would."""
        structure = structure_of(
            self.model.skeleton,
            self.source,
            graph,
            least_capability=least_capability(self.machine),
            packed=self.model.packed,
        )
        context = CheckContext(
            model=self.source.id,
            source=self.source,
            skeleton=self.model.skeleton,
            structure=structure,
            map=device_map_of(contract_entries(plan.placement)),
            machine=self.machine,
            main_device=self.machine.main_device,
            stated_main=True,
            workload=plan.workload or self.model.workload,
            installed=installed_versions(self.source.library),
        )
        context = run_all(context, self.options)
        check = result_of(context)
        # [raised] on one card too, on the inputs that devplan makes: no map is at fault.
        forgiven = MODEL_RAISED if self.model.profile.activations.raised else ""
        run = VerifiedPlan(
            result=plan,
            graph=graph,
            context=context,
            check=check,
            errors=tuple(error for error in check.errors if error.code != forgiven),
        )
        return replace(run, verification=verification_of(run))


# ------------------------------------------------------------------------------ verification


def verification_of(verified: VerifiedPlan) -> Verification:
    """What the run of a plan proves."""
    plan, record = verified.plan, verified.record
    if record is None:
        return Verification(status="unverified", detail=f"not run: {verified.context.not_run}")
    runs = verified.context.runs
    names = tuple(
        _named(run) for run in sorted(runs, key=lambda run: run.is_short) if not run.error
    )
    told = {"runs": names, "not_covered": _not_covered(verified), "peak_bytes": _peaks(plan, runs)}
    ran = f"{', '.join(record.phases) or 'nothing'} {_at(verified)} with {record.inputs}"
    if verified.errors:
        first = verified.errors[0]
        place = f" at {first.source}" if first.source else ""
        return Verification(
            status="findings",
            detail=f"ran {ran}: {first.code}{place}: {first.message}",
            **told,
        )
    if record.error is not None:
        place = f" at {record.error.source}" if record.error.source else ""
        return Verification(
            status="unverified",
            detail=f"the model's code raised {record.error.type} on inputs that devplan made"
            f"{place} ({record.error.phase}): {record.error.message[:200]}",
            **told,
        )
    phases = phase_peaks(plan, record) if verified.context.structure.graph.components else {}
    versions = verified.context.installed
    libraries = ", ".join(f"{name} {versions[name]}" for name in _RAN_WITH if name in versions)
    return Verification(
        status="clean",
        detail=f"ran {ran}: nothing that stops the model; {libraries}",
        **told,
        phase_bytes=phases,
    )


def _named(run: RunRecord) -> str:
    return f"{run.name} ({FEW_TOKENS} tokens)" if run.is_short else run.name


def _not_covered(verified: VerifiedPlan) -> str:
    """What users call too, and no run made at the workload or to its end."""
    context = verified.context
    tokens = f"{context.workload.tokens:,} tokens"
    at_workload = {run.name for run in context.runs if not run.is_short}
    found = []
    if verified.record.cut_to_tokens is not None:
        found.append(f"the memory of {verified.record.name} at {tokens}")
    if at_workload == {"generate"} and has_forward(context.skeleton.model):
        found.append(
            f"the memory of a forward over all positions at {tokens}, which --run all plans for"
        )
    if at_workload == {"forward"} and can_generate(context.skeleton.model):
        found.append("generate, which --run all plans for")
    found += dict.fromkeys(f"{each.name} ({each.reason})" for each in context.missed)
    return "; ".join(found)


def _peaks(plan: Plan, runs: Iterable[RunRecord]) -> dict[str, int]:
    """Card -> the most of all runs at the workload."""
    each = [card_peaks(plan, run) for run in runs if not run.is_short]
    return {device: max(peaks[device] for peaks in each) for device in each[0]}


def _at(verified: VerifiedPlan) -> str:
    """The workload that ran, for which alone the run is a proof."""
    workload, cut = verified.context.workload, verified.record.cut_to_tokens
    asked = f"at {workload.tokens:,} tokens x batch {workload.batch}"
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
