"""From a model and a machine to a map: the whole way, in one function.

    source -> skeleton -> profile -> graph -> plan -> proof -> map file

Nothing is written and nothing printed here; the command line does that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from devplan.checker import PLANNED, USUAL
from devplan.core import (
    BlockGraph,
    CheckResult,
    DeviceMapFile,
    Finding,
    Infeasible,
    InputError,
    Machine,
    ModelIdentity,
    NamedInFile,
    Plan,
    Workload,
    accepts,
    flag,
    function,
    one_of,
    optional,
    user_function,
)
from devplan.machine import MachineLike, speeds_of
from devplan.mapfile import UNVERIFIED, map_file_of
from devplan.models import ModelSource
from devplan.planning import PlanRequest, plan, with_recorded_traffic, without_uncounted
from devplan.sandbox import exclusively, in_time
from devplan.workflows.fallbacks import cures
from devplan.workflows.plan_runner import PlanRunner, VerifiedPlan
from devplan.workflows.profiled_model import (
    PLAN_ARGUMENTS,
    ProfiledModel,
    Progress,
    can_offload,
    lighter_forms,
    run_as_long_as_fits,
    silent,
    study,
    with_work,
)
from devplan.workflows.refinement import prove

LATENCY = "latency"
"""The objective for which the work of the blocks is counted."""


@accepts(
    **PLAN_ARGUMENTS,
    inputs=optional(user_function),
    run=one_of(*PLANNED),
    verify=flag,
    on_studied=optional(function),
)
@in_time
@exclusively
def suggest(
    model: str | NamedInFile,
    machine: MachineLike,
    workload: Workload | None = None,
    *,
    objective: str = "balance",
    pins: Mapping[str, str] | None = None,
    default_pins: bool = True,
    packed: bool = False,
    quantize: str | None = None,
    trust_remote_code: bool = False,
    revision: str | None = None,
    inputs: str | None = None,
    run: str = USUAL,
    verify: bool = True,
    on_studied: Callable[[ProfiledModel], None] | None = None,
    timeout_s: float | None = None,
    progress: Progress = silent,
) -> Suggestion:
    """The best device map of a model for a machine and a workload.

    Threads take turns, and other threads notice what `devplan.check` says.

    Parameters
    ----------
    model
        Catalogue name, folder, hub id or ``package.module:factory``.
    machine
        Cards, main device and offload tiers, as `devplan.parse_gpus` makes them; or text as
        ``--gpus`` takes it, ``"24GiB,12GiB"``, or a list, ``["24GiB", "12GiB"]``.
    workload
        Batch, context and dtypes; what is None is left to the model.
    objective
        ``balance``, ``context``, ``fewest`` or ``latency``.
    pins
        Module -> device.
    default_pins
        Whether embedding, towers and head belong on the main device.
    packed
        Count quantized weights as they are stored, also where transformers unpacks them.
    quantize
        How transformers quantizes the weights while it loads them: ``"4bit"``, ``"8bit"``,
        ``"fp8"``, or a quantization config.
    trust_remote_code
        Whether code that comes with the model may run.
    revision
        Branch, tag or commit on the hub.
    inputs
        ``file.py:function`` of the user's that makes the inputs.
    run
        Calls to plan for.  ``auto``: as the class is used, which is ``generate`` for most;
        ``forward``: one forward over all positions, with all logits; ``all``: both.
    verify
        Whether the plan is run virtually, and planned again until the run finds nothing that stops
        the model.
    on_studied
        Called with what is known of the model before anything is placed.
    timeout_s
        Seconds for all of it; None: as long as it takes.
    progress
        Called with a few words before each long step.

    Returns
    -------
    Suggestion
        What `devplan.write_map` writes and `devplan.load` takes.  ``map_file`` is the map; None
        where nothing fits, and ``result`` says what is missing.

    Raises
    ------
    InputError
        When the model cannot be found or built, the pins cannot be kept, or the time is up.

    Examples
    --------
    >>> work = devplan.Workload(context=32768)
    >>> found = devplan.suggest("Qwen/Qwen2.5-VL-7B-Instruct", "24GiB,12GiB", work)
    >>> devplan.write_map(found, "maps/qwen.yaml")
    """
    studied = study(
        model,
        workload or Workload(),
        (machine,),
        packed=packed,
        quantize=quantize,
        trust_remote_code=trust_remote_code,
        revision=revision,
        inputs=inputs,
        run=run,
        progress=progress,
    )
    if on_studied is not None:
        on_studied(studied)
    return suggest_studied(
        studied,
        machine,
        objective=objective,
        pins=pins or {},
        default_pins=default_pins,
        verify=verify,
        progress=progress,
    )


@exclusively
def suggest_studied(
    studied: ProfiledModel,
    machine: Machine,
    *,
    objective: str = "balance",
    pins: Mapping[str, str],
    default_pins: bool = True,
    verify: bool = True,
    progress: Progress = silent,
) -> Suggestion:
    """The same of a model that was built and run already."""
    progress(f"placing {len(studied.profile.sites)} blocks on {len(machine.cards)} cards")
    request_of = partial(
        _request, machine=machine, objective=objective, pins=pins, default_pins=default_pins
    )
    if objective == "context":
        studied = run_as_long_as_fits(studied, partial(_most_tokens, request_of))
    if objective == LATENCY:
        speeds_of(machine)  # refuses cards of unknown speed before the work is counted
        studied = with_work(studied)
    request = request_of(studied)
    proof = VerifiedPlan(
        result=plan(studied.graph, request), graph=studied.graph, verification=UNVERIFIED
    )
    if verify and isinstance(proof.result, Plan):
        progress("running the plan virtually")
        run = PlanRunner(model=studied, machine=machine, source=studied.source)
        proof = prove(proof, request, run)
        proof = replace(proof, result=_as_run(proof, machine, studied.workload))
        if proof.errors:
            proof = replace(proof, cures=cures(proof, request, run))
    if isinstance(proof.result, Plan):
        is_proven = proof.context is None or proof.verification.status != "unverified"
        known = without_uncounted(proof.result, proof.graph, is_proven=is_proven)
        proof = replace(proof, result=known)
    return _suggestion(studied, machine, proof)


def _as_run(proof: VerifiedPlan, machine: Machine, workload: Workload) -> Plan | Infeasible:
    """The plan with the traffic that its run showed."""
    runs = proof.check.runs if proof.check is not None else ()
    if isinstance(proof.result, Infeasible) or not runs:
        return proof.result
    workload = proof.result.workload or workload
    return with_recorded_traffic(proof.result, runs[0], proof.graph, machine, workload)


def _request(
    studied: ProfiledModel,
    *,
    machine: Machine,
    objective: str,
    pins: Mapping[str, str],
    default_pins: bool,
) -> PlanRequest:
    return PlanRequest(
        machine=machine,
        workload=studied.workload,
        objective=objective,
        pins=pins,
        default_pins=default_pins,
        alternatives=lighter_forms(studied),
        can_offload=can_offload(studied.source),
        # [limit] no run showed how it grows, so its own limit cannot be promised.
        limit_tokens=studied.limit_tokens if studied.is_growth_known else None,
    )


def _most_tokens(request_of: Callable[[ProfiledModel], PlanRequest], studied: ProfiledModel) -> int:
    found = plan(studied.graph, request_of(studied))
    return found.workload.tokens if isinstance(found, Plan) else 0


def _suggestion(studied: ProfiledModel, machine: Machine, proof: VerifiedPlan) -> Suggestion:
    result, identity = proof.result, studied.identity
    is_plan = isinstance(result, Plan)
    workload = (result.workload if is_plan else None) or studied.workload
    return Suggestion(
        source=studied.source,
        identity=identity,
        graph=proof.graph,
        workload=workload,
        result=result,
        check=proof.check,
        errors=proof.errors,
        cures=proof.cures,
        map_file=map_file_of(
            result,
            machine,
            workload,
            identity,
            verification=proof.verification,
            constraints=proof.constraints,
            library=studied.source.library,
            notes=studied.notes,
        )
        if is_plan
        else None,
        notes=studied.notes,
    )


# ------------------------------------------------------------------------------------------- result


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """What `suggest` found: a plan with its map file, or why there is none."""

    source: ModelSource
    identity: ModelIdentity
    graph: BlockGraph
    workload: Workload
    """What the plan is for: as asked, and what was not asked as the model has it; for the objective
    ``context`` with as many tokens as were found to fit."""
    result: Plan | Infeasible
    map_file: DeviceMapFile | None
    """None when nothing fits."""
    check: CheckResult | None = None
    """What the virtual run of the plan found; None: it was not run."""
    errors: tuple[Finding, ...] = ()
    """What of it stops the model: no plan was found that runs."""
    cures: tuple[str, ...] = ()
    """What else was tried then and ran, in words."""
    notes: tuple[str, ...]
    """What people should know of how this came about."""

    @property
    def checked_map(self) -> DeviceMapFile:
        """The map, for who needs one.

        Raises
        ------
        InputError
            When nothing fits, with the numbers and what would, or when no plan was found that runs.
        """
        if isinstance(self.result, Infeasible):
            change = self.result.remedies[0].change if self.result.remedies else "give larger cards"
            raise InputError(
                f"there is no map of {self.identity.id}, as nothing fits: {self.result.reason}; "
                f"what would make it fit: {change}"
            )
        if self.errors or self.map_file is None:
            first = f"{self.errors[0].code}, {self.errors[0].message}" if self.errors else "unknown"
            raise InputError(
                f"no plan of {self.identity.id} was found that runs: {first}; see .check, and "
                ".cures for what was tried; .map_file is the map that does not run"
            )
        return self.map_file
