"""Whether a loaded model is what its map says.

Looked at are all names of all parameters and buffers, the hooks of every module that an entry
governs, and the ties that the model declares.  Nothing is computed and no weight is read: a
dispatched model of 70 billion parameters takes a fraction of a second.

Exceptions that are right:

* weights of entries on ``cpu`` or ``disk`` are on the meta device, and wait behind their hook, or
  behind that of a module around it (``preload_module_classes``);
* buffers of such entries lie where the module runs, unless ``offload_buffers`` was asked for;
* with a main device that is the CPU, entries on ``cpu`` are not offloaded;
* a map of one device needs no hooks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from devplan.core import DeviceMapError, DeviceMapFile, is_inside, joined
from devplan.loader.differences import Audit, AuditDifference
from devplan.loader.hooks import device_text, execution_device, offloaded_weights
from devplan.loader.parts import Part, parts_of
from devplan.loader.target import Target, target_of
from devplan.loader.ties import broken_ties
from devplan.loader.uses import memory_differences, placed_bytes, staying_bytes, uses_of
from devplan.loader.waiting import Waiting
from devplan.runtime import align_hooks


def audit(
    model: Any,
    map: str | Path | Mapping[str, Any] | DeviceMapFile,
    *,
    devices: Mapping[str, Any] | None = None,
) -> Audit:
    """Compare a loaded model with its map.

    Parameters
    ----------
    model
        A model or a diffusers pipeline, however it was loaded; it is not touched.
    map
        A map file, a mapping as ``from_pretrained`` takes it, or what ``read_map`` gave.
    devices
        Card of the map -> device that stands in for it, as in `devplan.load`.

    Returns
    -------
    Audit
        Its ``differences``, and the use of each device beside the prediction.

    Raises
    ------
    InputError
        When the map cannot be read, or is of another pipeline.

    Examples
    --------
    >>> assert devplan.audit(model, "maps/x.yaml").is_clean
    """
    target = target_of(map, devices)
    return audit_parts(parts_of(model, target), target)


def audit_parts(parts: Iterable[Part], target: Target) -> Audit:
    """The audit of all models of a map that is read already, each by its part of it."""
    placed: Counter[str] = Counter()
    staying: Counter[str] = Counter()
    differences: list[AuditDifference] = []
    num_tensors = 0
    for part in parts:
        waiting = Waiting(offloaded_weights(part.model))
        tensors = tuple(_tensors(part.model))
        num_tensors += len(tensors)
        placed.update(placed_bytes(tensors, waiting))
        staying.update(staying_bytes(tensors, part.target))
        found = (
            *_misplaced(tensors, waiting, part.target),
            *_hook_differences(part.model, part.target),
            *broken_ties(part.model, waiting, part.target),
        )
        differences += [_of_component(each, part.name) for each in found]
    uses = uses_of(placed, target)
    differences += memory_differences(uses, staying)
    return Audit(
        map_name=target.name, differences=tuple(differences), uses=uses, num_tensors=num_tensors
    )


def _of_component(difference: AuditDifference, component: str) -> AuditDifference:
    """A difference that says which model of a pipeline it is of."""
    if not component:
        return difference
    name = joined(component, difference.name)
    return replace(difference, name=name, text=f"{component}: {difference.text}")


def refuse_differences(found: Audit) -> None:
    """Raise what an audit found, one line for each difference.

    Raises
    ------
    DeviceMapError
        Where there is one.
    """
    if found.differences:
        count = len(found.differences)
        lines = "\n".join(map(str, found.differences))
        raise DeviceMapError(
            f"the model is not what {found.map_name} says, {count} "
            f"difference{'s' if count > 1 else ''}:\n{lines}",
            differences=found.differences,
        )


# ------------------------------------------------------------------------------------ places


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _misplaced(
    tensors: tuple[tuple[str, torch.Tensor], ...], waiting: Waiting, target: Target
) -> Iterator[AuditDifference]:
    """Tensors that are not where they are to be: one difference for all alike of an entry."""
    groups: dict[tuple, list[str]] = {}
    for name, tensor in tensors:
        problem = _problem(name, tensor, waiting, target)
        if problem is not None:
            groups.setdefault((target.entry_of(name), *problem), []).append(name)
    for (entry, kind, text), names in groups.items():
        yield AuditDifference(kind=kind, name=names[0], text=_of_all(names, text), entry=entry)


def _problem(
    name: str, tensor: torch.Tensor, waiting: Waiting, target: Target
) -> tuple[str, str] | None:
    """Kind and text of what is wrong with a tensor's place, if anything is."""
    wanted = target.device_of(name)
    found = device_text(tensor.device)
    if wanted is None:
        # [no hooks] nothing refuses such a map, and what lies beside the rest runs there.
        is_beside = not target.needs_hooks and found in target.devices
        text = f"lies on {found}, and no entry of the map says where"
        return None if is_beside else ("place", text)
    if not target.is_offloaded(wanted):
        return None if found == wanted else _lies_elsewhere(name, found, wanted, waiting)
    if found == "meta":
        tier = waiting.tier(name)
        if tier == wanted:
            return None
        if tier is None:
            return "meta", f"is on meta and waits nowhere; it was to wait on {wanted}"
        return "place", f"waits on {tier}, not on {wanted}"
    if not isinstance(tensor, nn.Parameter) and found == target.main_device:
        return None
    return "place", f"lies on {found} and was to wait on {wanted}"


def _lies_elsewhere(name: str, found: str, wanted: str, waiting: Waiting) -> tuple[str, str]:
    if found != "meta":
        return "place", f"lies on {found}, not on {wanted}"
    tier = waiting.tier(name)
    if tier is None:
        return "meta", f"is on meta, without values, not on {wanted}"
    return "place", f"was offloaded to {tier} and was to lie on {wanted}"


# ------------------------------------------------------------------------------------- hooks


def _hook_differences(model: nn.Module, target: Target) -> Iterator[AuditDifference]:
    if not target.needs_hooks:
        return
    root = execution_device(model)
    if root != target.main_device:
        text = f"runs at {root}" if root else "has no hook"
        yield AuditDifference(
            kind="hook",
            name="",
            text=f"the whole model {text}: inputs were to enter at {target.main_device}",
        )
    groups: dict[tuple, list[str]] = {}
    whole = [name for name, module in model.named_modules() if _places_all_inside(module)]
    for name, module in model.named_modules():
        is_placed = any(is_inside(name, around) for around in whole if around != name)
        problem = _hook_problem(name, module, target) if name and not is_placed else ""
        if problem:
            groups.setdefault((target.entry_of(name), problem), []).append(name)
    for (entry, problem), names in groups.items():
        yield AuditDifference(kind="hook", name=names[0], text=_of_all(names, problem), entry=entry)


def _of_all(names: list[str], text: str) -> str:
    """One sentence for things that all have the same thing wrong with them."""
    if len(names) == 1:
        return f"{names[0]} {text}"
    return f"{names[0]} and {len(names) - 1} more: each {text}"


def _hook_problem(name: str, module: nn.Module, target: Target) -> str:
    """What is wrong with a module's hook; empty where nothing is, or it needs none."""
    wanted = target.device_of(name)
    if wanted is None or not (name in target.entries or _has_own(module)):
        return ""
    wanted = target.execution_device(wanted)
    if not any(True for _ in align_hooks(module)):
        holds_nothing = not module.state_dict(keep_vars=True)
        # [nothing to move] accelerate hooks what an entry names, and what has a state.
        return "" if holds_nothing and name not in target.entries else "has no hook"
    found = execution_device(module)
    return "" if found == wanted else f"runs at {found}, not at {wanted}"


def _places_all_inside(module: nn.Module) -> bool:
    """Whether a hook brings the weights of all modules inside (``preload_module_classes``)."""
    return any(hook.offload and hook.place_submodules for hook in align_hooks(module))


def _has_own(module: nn.Module) -> bool:
    own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return any(True for _ in own)
