"""A plan is run virtually and judged as ``devplan check`` would judge it.

What ran, what it found and what it does not prove is the `Verification` of a map.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from devplan.checker import FEW_TOKENS, RunOptions, result_of, run_all, structure_of
from devplan.core import (
    BlockGraph,
    CheckResult,
    Finding,
    Machine,
    Plan,
    RunRecord,
    Verification,
    Workload,
    device_map_of,
)
from devplan.machine import least_capability
from devplan.mapfile import contract_entries, installed_versions
from devplan.models import ModelSource, Skeleton
from devplan.rules import CheckContext
from devplan.virtual import can_generate, has_forward

MODEL_RAISED = "DP302"
"""An error of the model's own code; no map is at fault where the whole model raises one too."""


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A plan that was run virtually."""

    prepared: CheckContext
    """The map and the model, as they were run."""
    subject: CheckContext
    """The same with what the run showed."""
    record: RunRecord | None
    """None: it could not be run."""
    check: CheckResult
    """Everything that was found."""
    errors: tuple[Finding, ...] = ()
    """What of it stops the model on this map."""


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
        subject = CheckContext(
            model=self.source.id,
            source=self.source,
            skeleton=self.skeleton,
            structure=structure,
            map=device_map_of(contract_entries(plan.placement)),
            machine=self.machine,
            main_device=self.machine.main_device,
            stated_main=True,
            workload=plan.workload or self.workload,
            installed=installed_versions(self.source.library),
        )
        prepared = subject
        subject = run_all(prepared, self.options)
        record = subject.runs[0] if subject.runs else None
        check = result_of(subject)
        forgiven = MODEL_RAISED if self.raises_whole else ""
        errors = tuple(error for error in check.errors if error.code != forgiven)
        return Examined(
            prepared=prepared, subject=subject, record=record, check=check, errors=errors
        )


# ------------------------------------------------------------------------------ verification


def verification_of(plan: Plan, examined: Examined) -> Verification:
    record = examined.record
    if record is None:
        return Verification(status="unverified", detail=f"not run: {examined.subject.not_run}")
    runs = examined.subject.runs
    names = tuple(
        _named(run) for run in sorted(runs, key=lambda run: run.is_short) if not run.error
    )
    told = {"runs": names, "not_covered": _not_covered(examined), "peak_bytes": _peaks(plan, runs)}
    ran = f"{', '.join(record.phases) or 'nothing'} {_at(examined)} with {record.inputs}"
    if examined.errors:
        first = examined.errors[0]
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
    phases = phase_peaks(plan, record) if examined.subject.structure.graph.components else {}
    versions = examined.subject.installed
    libraries = ", ".join(f"{name} {versions[name]}" for name in _RAN_WITH if name in versions)
    return Verification(
        status="clean",
        detail=f"ran {ran}: nothing that stops the model; {libraries}",
        **told,
        phase_bytes=phases,
    )


def _named(run: RunRecord) -> str:
    return f"{run.name} ({FEW_TOKENS} tokens)" if run.is_short else run.name


def _not_covered(examined: Examined) -> str:
    """What users call too, and no run made at the workload or to its end."""
    subject = examined.subject
    tokens = f"{subject.workload.context_tokens:,} tokens"
    at_workload = {run.name for run in subject.runs if not run.is_short}
    found = []
    if examined.record.cut_to_tokens is not None:
        found.append(f"the memory of {examined.record.name} at {tokens}")
    if at_workload == {"generate"} and has_forward(examined.prepared.skeleton.model):
        found.append(
            f"the memory of a forward over all positions at {tokens}, which --run all plans for"
        )
    if at_workload == {"forward"} and can_generate(examined.prepared.skeleton.model):
        found.append("generate, which --run all plans for")
    found += dict.fromkeys(f"{each.name} ({each.reason})" for each in subject.missed)
    return "; ".join(found)


def _peaks(plan: Plan, runs: Iterable[RunRecord]) -> dict[str, int]:
    """Card -> the most of all runs at the workload."""
    each = [card_peaks(plan, run) for run in runs if not run.is_short]
    return {device: max(peaks[device] for peaks in each) for device in each[0]}


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
