"""Two maps of one model: where they differ, and what that means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from devplan.checker import (
    CHECK_ARGUMENTS,
    STRATEGIES,
    RunOptions,
    inferred_map,
    refuse_other_model,
)
from devplan.core import (
    DeviceMap,
    InputError,
    Machine,
    ModelIdentity,
    NamedInFile,
    Workload,
    accepts,
    function,
    model_name,
    optional,
)
from devplan.machine import MachineLike
from devplan.mapfile import MapLike, as_device_map, model_before_map
from devplan.rules import CheckContext
from devplan.sandbox import exclusively, in_time
from devplan.workflows.evaluation import Evaluation, built_of, judge
from devplan.workflows.profiled_model import ProfiledModel, Progress, silent, study

NOWHERE = "nowhere"
"""Where a tensor lies that no entry of a map governs."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """Blocks (or tensors of a block that a map divides) that lie elsewhere."""

    names: tuple[str, ...]
    """In execution order."""
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class MapDiff:
    """Two maps and what changes from the first to the second."""

    identity: ModelIdentity
    workload: Workload
    before: Evaluation
    after: Evaluation
    changes: tuple[Change, ...]
    blocks: tuple[str, ...]
    """All blocks in execution order, to name those that changed in few words."""
    limit_tokens: int | None
    notes: tuple[str, ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether every tensor is on the same device in both, and the inputs enter on one."""
        return not self.changes and (
            self.before.subject.main_device == self.after.subject.main_device
        )


CALL = (
    "devplan.diff(MODEL, BEFORE, AFTER), or devplan.diff(before=BEFORE, after=AFTER) for the model "
    "that the maps name"
)
_of_model = model_before_map(CALL)


def _model_first(name: str, value: Any) -> Any:
    return model_name(name, _of_model(name, value))


@accepts(
    model=optional(_model_first),
    **CHECK_ARGUMENTS,
    progress=function,
)
@in_time
@exclusively
def diff(
    model: str | NamedInFile | None = None,
    before: MapLike | None = None,
    after: MapLike | None = None,
    *,
    machine: MachineLike | None = None,
    main_device: str | int | None = None,
    workload: Workload | None = None,
    packed: bool = False,
    quantize: str | None = None,
    options: RunOptions | None = None,
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> MapDiff:
    """What changes from one map to another.

    Parameters
    ----------
    model
        Catalogue name, folder, hub id or ``package.module:factory``; None: as a map says.
    before, after
        Map files, mappings as ``from_pretrained`` takes them, or names of its strategies
        (``auto``, ``balanced_low_0``, ``sequential``).
    machine
        Cards of both; None: each map its own, and one that says none that of the other.
    main_device, workload
        None: as the maps say, the first before the second.
    packed
        Whether quantized weights count as they are stored; a map that was made so says so itself.
    quantize
        How transformers quantizes the weights while it loads them; None: as the maps say.
    options
        How both are run.

    Raises
    ------
    InputError
        When a map cannot be read, or nobody says which model or cards it is for.
    """
    if before is None or after is None:
        raise InputError(f"a map is missing; give two: {CALL}")
    first, second = (
        None if _is_strategy(each) else as_device_map(each) for each in (before, after)
    )
    known = [given for given in (first, second) if given is not None]
    name, machines = _model(model, known), _machines(first, second, machine)
    studied = study(
        name,
        _workload(workload, known),
        machines,
        packed=packed or any(given.packed for given in known),
        quantize=quantize or _quantize(known),
        trust_remote_code=trust_remote_code,
        of_tokens="diff",
        progress=progress,
    )
    built = built_of(studied, machines)
    judged = []
    for asked, given, cards in zip((before, after), (first, second), machines, strict=True):
        given = given or inferred_map(str(asked), studied.skeleton, cards)
        refuse_other_model(given, built)
        name = str(asked) if _is_strategy(asked) else given.name
        progress(f"running {name} virtually")
        judged.append(judge(name, built, given, cards, main_device=main_device, options=options))
    return _diff(studied, *judged)


def _quantize(known: Sequence[DeviceMap]) -> str | None:
    """How the maps have the weights quantized while loading: both alike, or only one says it."""
    stated = {given.quantize for given in known if given.content is not None}
    if len(stated) > 1:
        first, second = (given.quantize or "as stored" for given in known)
        raise InputError(
            f"the weights of one map are loaded {first}, those of the other {second}; plan both "
            "with the same --quantize"
        )
    return next(iter(stated), None)


def _diff(studied: ProfiledModel, before: Evaluation, after: Evaluation) -> MapDiff:
    return MapDiff(
        identity=studied.identity,
        workload=studied.workload,
        before=before,
        after=after,
        changes=changes(before.subject, after.subject),
        blocks=before.subject.structure.graph.names,
        limit_tokens=studied.limit_tokens,
        notes=studied.notes,
    )


def _is_strategy(given: MapLike) -> bool:
    return isinstance(given, str) and given in STRATEGIES


def _model(model: str | NamedInFile | None, known: list[DeviceMap]) -> str | NamedInFile:
    if model is not None:
        return model
    said = [given.model for given in known if given.model is not None]
    named = list({model.text: model for model in reversed(said)}.values())[::-1]
    if not named:
        raise InputError("neither map names its model; give --model")
    if len(named) > 1:
        raise InputError(
            f"the maps are for two models, {named[0]} and {named[1]}; give --model to see both as "
            "maps of one"
        )
    return named[0]


def _machines(
    first: DeviceMap | None, second: DeviceMap | None, machine: Machine | None
) -> tuple[Machine, Machine]:
    own = [machine or (given.machine if given else None) for given in (first, second)]
    known = next((found for found in own if found is not None), None)
    if known is None:
        raise InputError("neither map names its GPUs; give --gpus 24GiB,12GiB")
    return own[0] or known, own[1] or known


def _workload(workload: Workload | None, known: list[DeviceMap]) -> Workload:
    said = next((given.workload for given in known if given.workload), None)
    return workload or said or Workload()


# ------------------------------------------------------------------------------------ changes


def changes(before: CheckContext, after: CheckContext) -> tuple[Change, ...]:
    """What lies elsewhere, grouped by from where to where, in execution order."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, old, new in _moved(before, after):
        groups.setdefault((old, new), []).append(name)
    return tuple(
        Change(names=tuple(names), before=old, after=new) for (old, new), names in groups.items()
    )


def _moved(before: CheckContext, after: CheckContext) -> Iterator[tuple[str, str, str]]:
    """(block or tensor, device before, device after), where these differ.

    A block is named whole where each map has all of it on one device, else tensor by tensor.
    """
    structure = before.structure
    inside: dict[str, list[str]] = {name: [] for name in structure.graph.names}
    for tensor in structure.tensors:
        block = structure.block_of(tensor)
        inside.setdefault(block or tensor, []).append(tensor)
    for name, tensors in inside.items():
        old, new = ({_lies(subject, t) for t in tensors or [name]} for subject in (before, after))
        if old == new and len(old) == 1:
            continue
        if len(old) == len(new) == 1:
            yield name, *old, *new
            continue
        for tensor in tensors:
            if _lies(before, tensor) != _lies(after, tensor):
                yield tensor, _lies(before, tensor), _lies(after, tensor)


def _lies(subject: CheckContext, name: str) -> str:
    return subject.device_of(name) or NOWHERE
