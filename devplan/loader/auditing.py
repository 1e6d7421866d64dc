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
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from devplan.core import (
    DeviceMapError,
    DeviceUsage,
    Finding,
    Severity,
    accepts,
    format_bytes,
    is_inside,
    joined,
)
from devplan.environment import missing_notes
from devplan.loader.parts import Part, parts_of
from devplan.loader.target import Target, target_of
from devplan.mapfile import MapLike, model_before_map
from devplan.virtual import (
    OffloadedTensors,
    device_text,
    hook_device,
    is_dispatched,
    offloaded_weights,
    places_all_inside,
    storage_of,
)

CODES = ("place", "meta", "hook", "tie", "memory")
"""Codes of the findings: a tensor lies elsewhere; a tensor has no values; inputs are not moved
as they must be; tied tensors came apart; more bytes than the map predicts."""


def audit_line(finding: Finding) -> str:
    """The entry of the map, where one says otherwise, and what was found."""
    entry = finding.entry
    if entry is None:
        return finding.message
    where = f"{entry.file}:{entry.line}: " if entry.line else ""
    return f"{where}{entry.key}: {entry.written}: {finding.message}"


@dataclass(frozen=True, kw_only=True)
class Audit:
    """All of an audit."""

    map_name: str
    findings: tuple[Finding, ...]
    """Errors with one of `CODES`, and as ``module`` the module or tensor, or a device."""
    uses: tuple[DeviceUsage, ...]
    num_tensors: int
    """Parameters and buffers that were looked at, under each of their names."""
    notes: tuple[str, ...] = ()
    """Names of other libraries that devplan reads and these releases lack."""

    @property
    def is_clean(self) -> bool:
        """Whether the model is what the map says."""
        return not self.findings

    def raise_for_findings(self) -> None:
        """Raise if the model is not what the map says.

        Raises
        ------
        DeviceMapError
            With one line for each finding; they are its ``findings``.
        """
        if self.findings:
            count = len(self.findings)
            lines = "\n".join(map(audit_line, self.findings))
            raise DeviceMapError(
                f"the model is not what {self.map_name} says, {count} "
                f"difference{'s' if count > 1 else ''}:\n{lines}",
                findings=self.findings,
            )

    def __str__(self) -> str:
        count = len(self.findings)
        head = f"{self.map_name}: {self.num_tensors} tensors, {count or 'no'} differences"
        notes = [f"note: {note}" for note in self.notes]
        findings = map(audit_line, self.findings)
        return "\n".join([head, *findings, *map(usage_line, self.uses), *notes])


@accepts(model=model_before_map("devplan.audit(MODEL, MAP)"))
def audit(
    model: Any,
    map: MapLike,
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
        Its ``findings``, and the use of each device beside the prediction.

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
    left_behind: Counter[str] = Counter()
    differences: list[Finding] = []
    num_tensors = 0
    for part in parts:
        waiting = OffloadedTensors(offloaded_weights(part.model))
        tensors = tuple(_tensors(part.model))
        num_tensors += len(tensors)
        placed.update(placed_bytes(tensors, waiting))
        left_behind.update(buffer_bytes_left_behind(tensors, part.target))
        found = (
            *_misplaced(tensors, waiting, part.target),
            *_hook_differences(part.model, part.target),
            *broken_ties(part.model, waiting, part.target),
        )
        differences += [_of_component(each, part.name) for each in found]
    uses = uses_of(placed, target)
    differences += memory_differences(uses, left_behind)
    return Audit(
        map_name=target.name,
        findings=tuple(differences),
        uses=uses,
        num_tensors=num_tensors,
        notes=missing_notes(),
    )


def _of_component(difference: Finding, component: str) -> Finding:
    """A difference that says which model of a pipeline it is of."""
    if not component:
        return difference
    module = joined(component, difference.module)
    return replace(difference, module=module, message=f"{component}: {difference.message}")


# ------------------------------------------------------------------------------------ places


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _misplaced(
    tensors: tuple[tuple[str, torch.Tensor], ...], waiting: OffloadedTensors, target: Target
) -> Iterator[Finding]:
    """Tensors that are not where they are to be: one difference for all alike of an entry."""
    groups: dict[tuple, list[str]] = {}
    for name, tensor in tensors:
        problem = _problem(name, tensor, waiting, target)
        if problem is not None:
            groups.setdefault((target.entry_of(name), *problem), []).append(name)
    for (entry, kind, text), names in groups.items():
        yield Finding(
            code=kind,
            severity=Severity.ERROR,
            module=names[0],
            message=_of_all(names, text),
            entry=entry,
        )


def _problem(
    name: str, tensor: torch.Tensor, waiting: OffloadedTensors, target: Target
) -> tuple[str, str] | None:
    """Kind and text of what is wrong with a tensor's place, if anything is."""
    wanted = target.device_of(name)
    found = device_text(tensor.device)
    if wanted is None:
        # [no hooks] nothing refuses such a map, and what lies beside the rest runs there.
        is_beside = not target.needs_hooks and found in target.devices
        text = f"is on {found}, and no entry of the map says where"
        return None if is_beside else ("place", text)
    if not target.is_offloaded(wanted):
        return None if found == wanted else _lies_elsewhere(name, found, wanted, waiting)
    if found == "meta":
        tier = waiting.tier(name)
        if tier == wanted:
            return None
        if tier is None:
            return "meta", f"is on meta without values; it should be offloaded to {wanted}"
        return "place", f"is offloaded to {tier}, not on {wanted}"
    if not isinstance(tensor, nn.Parameter) and found == target.main_device:
        return None
    return "place", f"is on {found} and should be offloaded to {wanted}"


def _lies_elsewhere(
    name: str, found: str, wanted: str, waiting: OffloadedTensors
) -> tuple[str, str]:
    if found != "meta":
        return "place", f"is on {found}, not on {wanted}"
    tier = waiting.tier(name)
    if tier is None:
        return "meta", f"is on meta, without values, not on {wanted}"
    return "place", f"was offloaded to {tier} and should be on {wanted}"


# ------------------------------------------------------------------------------------- hooks


def _hook_differences(model: nn.Module, target: Target) -> Iterator[Finding]:
    if not target.needs_hooks:
        return
    root = hook_device(model)
    if root != target.main_device:
        text = f"runs at {root}" if root else "has no hook"
        yield Finding(
            code="hook",
            severity=Severity.ERROR,
            module="",
            message=f"the whole model {text}: inputs were to enter at {target.main_device}",
        )
    groups: dict[tuple, list[str]] = {}
    whole = [name for name, module in model.named_modules() if places_all_inside(module)]
    for name, module in model.named_modules():
        is_placed = any(is_inside(name, around) for around in whole if around != name)
        problem = _hook_problem(name, module, target) if name and not is_placed else ""
        if problem:
            groups.setdefault((target.entry_of(name), problem), []).append(name)
    for (entry, problem), names in groups.items():
        yield Finding(
            code="hook",
            severity=Severity.ERROR,
            module=names[0],
            message=_of_all(names, problem),
            entry=entry,
        )


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
    if not is_dispatched(module):
        holds_nothing = not module.state_dict(keep_vars=True)
        # [nothing to move] accelerate hooks what an entry names, and what has a state.
        return "" if holds_nothing and name not in target.entries else "has no hook"
    found = hook_device(module)
    return "" if found == wanted else f"runs at {found}, not at {wanted}"


def _has_own(module: nn.Module) -> bool:
    own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return any(True for _ in own)


# Weights and buffers of a map are those of the model's own tensors, so they agree to the byte; a
# hundredth is chosen for what a class makes otherwise when it is loaded.
MOST_ABOVE = 0.01


def placed_bytes(
    tensors: Iterable[tuple[str, torch.Tensor]], waiting: OffloadedTensors
) -> dict[str, int]:
    """Bytes of a model by device, each storage once; offloaded tensors count where they wait."""
    found = _BytesByDevice()
    for name, tensor in tensors:
        if tensor.is_meta:
            found.add(tensor, waiting.tier(name) or "meta", waiting.identity(name) or name)
        else:
            found.add(tensor, device_text(tensor.device), storage_of(tensor))
    return found.num_bytes


def buffer_bytes_left_behind(
    tensors: Iterable[tuple[str, torch.Tensor]], target: Target
) -> dict[str, int]:
    """Bytes by device of buffers that stay where their offloaded module runs, each storage once.

    accelerate offloads parameters alone, whereas a map counts a whole block where its entry is.
    """
    found = _BytesByDevice()
    for name, tensor in tensors:
        wanted = target.device_of(name)
        if not tensor.is_meta and wanted is not None and target.is_offloaded(wanted):
            found.add(tensor, device_text(tensor.device), storage_of(tensor))
    return found.num_bytes


class _BytesByDevice:
    """A sum of the bytes of tensors by device, in which each storage counts once."""

    def __init__(self) -> None:
        self.num_bytes: dict[str, int] = {}
        self._seen: set[tuple[str, object]] = set()

    def add(self, tensor: torch.Tensor, device: str, identity: object) -> None:
        if (device, identity) not in self._seen:
            self._seen.add((device, identity))
            self.num_bytes[device] = self.num_bytes.get(device, 0) + _num_bytes(tensor)


def uses_of(placed: Mapping[str, int], target: Target) -> tuple[DeviceUsage, ...]:
    """What was placed on each device, beside what the map foretells."""
    predicted = target.static_bytes()
    return tuple(
        DeviceUsage(
            device=device,
            predicted_bytes=predicted.get(device),
            placed_bytes=placed.get(device, 0),
            allocated_bytes=_allocated_bytes(device),
        )
        for device in sorted({*placed, *predicted})
    )


def usage_line(usage: DeviceUsage) -> str:
    """``cuda:0: 3 GiB of weights and buffers, 3 GiB predicted, 3.1 GiB allocated by PyTorch``."""
    parts = [f"{usage.device}: {format_bytes(usage.placed_bytes or 0)} of weights and buffers"]
    if usage.predicted_bytes is not None:
        parts.append(f"{format_bytes(usage.predicted_bytes)} predicted")
    if usage.allocated_bytes is not None:
        parts.append(f"{format_bytes(usage.allocated_bytes)} allocated by PyTorch")
    return ", ".join(parts)


def memory_differences(
    uses: Iterable[DeviceUsage], left_behind: Mapping[str, int]
) -> Iterator[Finding]:
    """Devices that hold more than the map predicts and the buffers left behind there."""
    for use in uses:
        if use.predicted_bytes is None or use.device == "meta":
            continue
        expected = use.predicted_bytes + left_behind.get(use.device, 0)
        if use.placed_bytes > expected * (1 + MOST_ABOVE):
            yield Finding(
                code="memory",
                severity=Severity.ERROR,
                module=use.device,
                message=f"{use.device} holds {format_bytes(use.placed_bytes)} of weights and "
                f"buffers, the map foretells {format_bytes(expected)}",
            )


def _num_bytes(tensor: torch.Tensor) -> int:
    """A tensor that stands for others (packed weights of torchao) is as large as these."""
    if hasattr(tensor, "__tensor_flatten__"):
        return sum(_num_bytes(getattr(tensor, part)) for part in tensor.__tensor_flatten__()[0])
    return tensor.numel() * tensor.element_size()


def _allocated_bytes(device: str) -> int | None:
    if not device.startswith("cuda:") or not torch.cuda.is_available():
        return None
    return torch.cuda.memory_allocated(device)


def tied_pairs(model: nn.Module) -> Mapping[str, str]:
    """Name -> the name that it is tied to, as the model's class declares it.

    transformers 5 lists them (``all_tied_weights_keys``).  Before, only the pair of input and
    output embedding is known, from the configuration.
    """
    listed = getattr(model, "all_tied_weights_keys", None)
    if listed is not None:
        return dict(listed)
    config = getattr(model, "config", None)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    if not getattr(text, "tie_word_embeddings", False):
        return {}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    if id(embedding) not in names or id(head) not in names:
        return {}
    return {f"{names[id(head)]}.weight": f"{names[id(embedding)]}.weight"}


def broken_ties(model: nn.Module, waiting: OffloadedTensors, target: Target) -> Iterator[Finding]:
    """Pairs that are two tensors now."""
    tensors = dict(model.named_parameters(remove_duplicate=False))
    for name, other in tied_pairs(model).items():
        one, two = tensors.get(name), tensors.get(other)
        if one is None or two is None or one is two:
            continue
        if _identity(name, one, waiting) == _identity(other, two, waiting):
            continue
        places = f"one is on {_place(name, one, waiting)}, one on {_place(other, two, waiting)}"
        yield Finding(
            code="tie",
            severity=Severity.ERROR,
            module=name,
            message=f"{name} and {other} are tied and are two tensors now: {places}",
            entry=target.entry_of(name),
        )


def _identity(name: str, tensor: torch.Tensor, waiting: OffloadedTensors) -> object:
    """The same for two names of one tensor; tensors without values are told by their names."""
    if tensor.is_meta:
        return waiting.identity(name) or ("meta", name)
    return tensor.device, storage_of(tensor)


def _place(name: str, tensor: torch.Tensor, waiting: OffloadedTensors) -> str:
    return (waiting.tier(name) or "meta") if tensor.is_meta else device_text(tensor.device)
