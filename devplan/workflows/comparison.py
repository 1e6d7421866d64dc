"""devplan's map beside those of the planners that are installed anyway."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from devplan.checker import CPU_TOO, Built, accelerate_by_hand, from_pretrained_strategy
from devplan.core import (
    Machine,
    ModelIdentity,
    NamedInFile,
    Plan,
    Workload,
    accepts,
    device_map_of,
    one_line,
)
from devplan.machine import MachineLike
from devplan.sandbox import exclusively, in_time
from devplan.workflows.evaluation import Evaluation, built_of, judge
from devplan.workflows.profiled_model import (
    PLAN_ARGUMENTS,
    ProfiledModel,
    Progress,
    silent,
    study,
)
from devplan.workflows.suggesting import suggest_studied

DEVPLAN = "devplan"
BY_HAND = "accelerate"
STRATEGIES = ("auto", "balanced_low_0", "sequential")
"""Of ``from_pretrained``; ``balanced`` is the same as ``auto``."""

QUANTIZED = (
    "the other planners place the weights at the size of the skeleton; from_pretrained would give "
    "them the quantizer's sizes"
)


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A planner, and its map as it was judged or why there is none."""

    name: str
    judged: Evaluation | None
    refusal: str = ""
    """Why there is no map."""

    @property
    def is_clean(self) -> bool:
        return self.judged is not None and self.judged.is_clean


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All contenders, devplan first."""

    identity: ModelIdentity
    machine: Machine
    workload: Workload
    contenders: tuple[Contender, ...]
    limit_tokens: int | None
    """Longest context that the model supports."""
    library: str = "transformers"
    """Whose ``from_pretrained`` it is."""
    notes: tuple[str, ...] = ()

    @property
    def own(self) -> Contender:
        """devplan."""
        return self.contenders[0]


@accepts(**PLAN_ARGUMENTS)
@in_time
@exclusively
def compare(
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
    timeout_s: float | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Let every planner place a model on a machine, and run every map virtually.

    Parameters
    ----------
    model
        Catalogue name, folder, hub id or ``package.module:factory``.
    machine
        Cards; text as ``--gpus`` takes it.
    workload
        The workload at which all maps are judged.
    objective, pins, default_pins
        Of devplan's plan, as for `devplan.suggest`; the others take none.
    packed, quantize, trust_remote_code, revision, timeout_s, progress
        As there.

    Raises
    ------
    InputError
        When the model cannot be found or built, the pins cannot be kept, or the time is up.
    """
    studied = study(
        model,
        workload or Workload(),
        (machine,),
        packed=packed,
        quantize=quantize,
        trust_remote_code=trust_remote_code,
        revision=revision,
        of_tokens="compare",
        progress=progress,
    )
    suggestion = suggest_studied(
        studied,
        machine,
        objective=objective,
        pins=pins or {},
        default_pins=default_pins,
        progress=progress,
    )
    built, found = built_of(studied, (machine,)), suggestion.result
    if isinstance(found, Plan):
        entries = suggestion.map_file.device_map
        own = Contender(name=DEVPLAN, judged=judge(DEVPLAN, built, device_map_of(entries), machine))
    else:
        own = Contender(name=DEVPLAN, judged=None, refusal=f"nothing fits: {found.reason}")
    others = [
        _contender(name, planner, built, machine, progress) for name, planner in peers_of(studied)
    ]
    quantized = (QUANTIZED,) if studied.profile.weights.quantization else ()
    return Comparison(
        identity=studied.identity,
        machine=machine,
        workload=studied.workload,
        contenders=(own, *others),
        limit_tokens=studied.limit_tokens,
        library=studied.source.library,
        notes=(*studied.notes, *quantized),
    )


Planner = Callable[[Machine], Mapping[str, str]]


def peers_of(studied: ProfiledModel) -> list[tuple[str, Planner]]:
    """The other planners by name, each a function from a machine to a device map."""
    model, no_split = studied.skeleton.model, studied.skeleton.no_split
    by_hand = partial(accelerate_by_hand, model, beside=CPU_TOO)
    strategies = {
        strategy: partial(
            from_pretrained_strategy, strategy, model, beside=CPU_TOO, no_split=no_split
        )
        for strategy in STRATEGIES
    }
    return [(BY_HAND, by_hand), *strategies.items()]


def _contender(
    name: str, planner: Planner, built: Built, machine: Machine, progress: Progress
) -> Contender:
    progress(f"asking {name}, and running its map virtually")
    try:
        device_map = planner(machine)
    except Exception as error:  # another library's planner: anything can happen
        text = one_line(error, 200)
        return Contender(name=name, judged=None, refusal=f"{type(error).__name__}: {text}")
    return Contender(name=name, judged=judge(name, built, device_map_of(device_map, name), machine))
