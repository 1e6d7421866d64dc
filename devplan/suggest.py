"""From a model and a machine to a map: the whole way, in one function.

    source -> skeleton -> profile -> graph -> plan -> proof -> map file

Nothing is written and nothing printed here; the command line does that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from devplan.dtypes import dtype_name
from devplan.errors import InputError
from devplan.findings import CheckResult, Diagnostic
from devplan.graph import build_graph
from devplan.machine import least_capability
from devplan.machine.speeds import speeds_of
from devplan.main_device import main_device_notes
from devplan.mapfile import contract_entries
from devplan.mapfile.versions import installed_versions
from devplan.planning import plan as plan_placement
from devplan.planning.recorded import with_recorded_traffic
from devplan.profile import Profile, profile_skeleton
from devplan.profile.activations import measure_activations
from devplan.profile.work import measure_work
from devplan.proving import Examiner, Proof, prove
from devplan.skeleton import Skeleton, build_skeleton
from devplan.sources import ModelSource, resolve
from devplan.sources.native import native_class, remote_auto_class
from devplan.types import (
    BlockGraph,
    Constraint,
    DeviceMapFile,
    Infeasible,
    Machine,
    ModelIdentity,
    Plan,
    Verification,
    Workload,
)
from devplan.workload import WorkloadRequest, resolve_workload

UNVERIFIED = Verification(
    status="unverified", detail="planned from sizes and virtual runs on one card; not run as split"
)

LATENCY = "latency"
"""The objective for which the work of the blocks is counted."""

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """What `suggest` found: a plan with its map file, or why there is none."""

    source: ModelSource
    identity: ModelIdentity
    graph: BlockGraph
    workload: Workload
    """As asked, and what was not asked as the model has it."""
    result: Plan | Infeasible
    map_file: DeviceMapFile | None
    """None when nothing fits."""
    check: CheckResult | None = None
    """What the virtual run of the plan found; None: it was not run."""
    errors: tuple[Diagnostic, ...] = ()
    """What of it stops the model: no plan was found that runs."""
    notes: tuple[str, ...]
    """What people should know of how this came about."""


def suggest(
    model: str,
    machine: Machine,
    request: WorkloadRequest,
    *,
    objective: str = "balance",
    pins: Mapping[str, str] | None = None,
    default_pins: bool = True,
    packed: bool = False,
    trust_remote_code: bool = False,
    revision: str | None = None,
    verify: bool = True,
    progress: Progress = lambda text: None,
) -> Suggestion:
    """The best device map of a model for a machine and a workload.

    Parameters
    ----------
    model
        Catalogue name, folder, hub id or ``package.module:factory``.
    machine
        Cards, main device and offload tiers; `devplan.machine.parse_gpus` makes one.
    request
        Batch, context and dtypes; what is None is left to the model.
    objective
        ``balance``, ``context``, ``fewest`` or ``latency``.
    pins
        Module -> device.
    default_pins
        Whether embedding, towers and head belong on the main device.
    packed
        Count quantized weights as they are stored, also where transformers unpacks them.
    trust_remote_code
        Whether code that comes with the model may run.
    revision
        Branch, tag or commit on the hub.
    verify
        Whether the plan is run virtually, and planned again until the run finds nothing that stops
        the model.
    progress
        Called with a few words before each long step.

    Raises
    ------
    InputError
        When the model cannot be found or built, or the pins cannot be kept.
    """
    progress(f"reading {model}")
    source = resolve(model, trust_remote_code=trust_remote_code, revision=revision)
    progress(f"building {source.class_name or model} on the meta device")
    skeleton = build_skeleton(source, request.dtype)
    workload, workload_notes = resolve_workload(
        request, dtype=dtype_name(skeleton.dtype), max_tokens=skeleton.max_tokens
    )
    progress("running it virtually")
    profile = _profile(skeleton, source, workload, machine, packed)
    activations = measure_activations(skeleton, profile.sites, workload)
    profile = replace(profile, activations=activations)
    if objective == LATENCY:
        speeds_of(machine)  # refuses cards of unknown speed before the work is counted
        profile = replace(profile, work=measure_work(skeleton, profile.sites, workload))
    graph = build_graph(profile)
    progress(f"placing {len(graph.blocks)} blocks on {len(machine.cards)} cards")

    def plan_with(graph: BlockGraph, pins: Mapping[str, str]) -> Plan | Infeasible:
        return plan_placement(
            graph,
            machine,
            workload,
            objective=objective,
            pins=pins,
            default_pins=default_pins,
            alternatives=_alternatives(profile, skeleton, source),
        )

    proof = Proof(result=plan_with(graph, pins or {}), graph=graph, verification=UNVERIFIED)
    if verify and isinstance(proof.result, Plan):
        progress("running the plan virtually")
        examine = Examiner(
            source=source,
            skeleton=skeleton,
            machine=machine,
            workload=workload,
            raises_whole=bool(profile.activations.raised),
        )
        proof = prove(proof, pins or {}, plan_with, examine)
        proof = replace(proof, result=_as_run(proof, machine, workload))
    identity = _identity(source, skeleton, profile)
    notes = (*source.notes, *skeleton.notes, *profile.notes, *workload_notes)
    notes += _cache_notes(skeleton, profile)
    return Suggestion(
        source=source,
        identity=identity,
        graph=proof.graph,
        workload=workload,
        result=proof.result,
        check=proof.check,
        errors=proof.errors,
        map_file=None
        if isinstance(proof.result, Infeasible)
        else map_file_of(
            proof.result,
            machine,
            workload,
            identity,
            verification=proof.verification,
            constraints=proof.constraints,
            library=source.library,
            notes=notes,
        ),
        notes=notes,
    )


def _as_run(proof: Proof, machine: Machine, workload: Workload) -> Plan | Infeasible:
    """The plan with the traffic that its run showed."""
    runs = proof.check.runs if proof.check is not None else ()
    if isinstance(proof.result, Infeasible) or not runs:
        return proof.result
    return with_recorded_traffic(proof.result, runs[-1], proof.graph, machine, workload)


def _profile(
    skeleton: Skeleton, source: ModelSource, workload: Workload, machine: Machine, packed: bool
) -> Profile:
    try:
        return profile_skeleton(
            skeleton,
            source,
            workload,
            least_capability=least_capability(machine),
            packed=packed,
        )
    except InputError as error:  # of its quantization config, which does not know whose it is
        raise InputError(f"{source.id}: {error}") from error


def _cache_notes(skeleton: Skeleton, profile: Profile) -> tuple[str, ...]:
    """A model that generates and showed no cache: some releases return one only when asked."""
    generates = getattr(skeleton.model, "can_generate", lambda: False)()
    if not generates or not profile.run.order or any(profile.run.cache.values()):
        return ()
    return ("no KV cache was seen in the virtual run, so none is counted",)


def _alternatives(
    profile: Profile, skeleton: Skeleton, source: ModelSource
) -> dict[str, Callable[[], BlockGraph]]:
    """Lighter forms of the model, tried when nothing fits: 8 and 4 bit weights."""
    if profile.weights.quantization is not None or source.library != "transformers":
        return {}
    return {
        f"load in {bits} bit (BitsAndBytesConfig(load_in_{bits}bit=True))": partial(
            _quantized_graph, profile, skeleton, bits
        )
        for bits in (8, 4)
    }


def _quantized_graph(profile: Profile, skeleton: Skeleton, bits: int) -> BlockGraph:
    from devplan.profile import measure_weights

    config = {"quant_method": "bitsandbytes", f"load_in_{bits}bit": True}
    weights = measure_weights(skeleton, profile.sites, quantization_config=config)
    return build_graph(replace(profile, weights=weights))


def _identity(source: ModelSource, skeleton: Skeleton, profile: Profile) -> ModelIdentity:
    return ModelIdentity(
        id=source.id,
        revision=source.revision,
        config_hash=source.config_hash,
        class_name=skeleton.class_name,
        auto_class=None if native_class(source) is not None else remote_auto_class(source),
        dtype=dtype_name(skeleton.dtype),
        quantization=profile.weights.quantization,
        num_parameters=profile.weights.num_parameters,
    )


def map_file_of(
    plan: Plan,
    machine: Machine,
    workload: Workload,
    identity: ModelIdentity,
    *,
    verification: Verification = UNVERIFIED,
    constraints: tuple[Constraint, ...] = (),
    library: str = "transformers",
    notes: tuple[str, ...] = (),
) -> DeviceMapFile:
    """A plan with everything that it was made for."""
    return DeviceMapFile(
        device_map=contract_entries(plan.placement),
        model=identity,
        machine=machine,
        workload=workload,
        loads=plan.loads,
        offload_bytes=plan.offload_bytes,
        certificate=plan.certificate,
        pins=plan.pins,
        relaxed=plan.relaxed,
        transfers=plan.transfers,
        shared_copies=plan.shared_copies,
        traffic=plan.traffic,
        timing=plan.timing,
        constraints=constraints,
        verification=verification,
        versions=installed_versions(library),
        notes=(*plan.notes, *main_device_notes(plan.placement.values(), machine), *notes),
    )
