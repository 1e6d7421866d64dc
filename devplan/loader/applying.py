"""`apply`: a model that is built already, spread over the devices of a map."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from devplan.errors import InputError
from devplan.loader.auditing import audit_target
from devplan.loader.dispatching import bring_home, dispatch
from devplan.loader.finishing import cache_copies
from devplan.loader.hooks import is_dispatched
from devplan.loader.loading import ON_DIFFERENCE, answer
from devplan.loader.offloading import offload_folder as writing_to
from devplan.loader.target import Target, refuse_inside_offloaded, target_of
from devplan.types import DISK, OFFLOAD_DEVICES, DeviceMapFile

log = logging.getLogger("devplan")


def apply(
    model: nn.Module,
    map: str | Path | Mapping[str, Any] | DeviceMapFile,
    *,
    devices: Mapping[str, Any] | None = None,
    on_difference: str = "raise",
    offload_folder: str | Path | None = None,
    offload_buffers: bool = False,
    cache_transfers: bool = True,
) -> nn.Module:
    """Spread a model that has its weights over the devices of a map, with accelerate's hooks.

    Ties are kept.  A model that is dispatched already is taken apart first: its offloaded weights
    come back to the CPU, which must hold them.

    Parameters
    ----------
    model
        On the CPU, or dispatched.
    map
        A map file, a mapping as ``from_pretrained`` takes it, or what ``read_map`` gave.
    devices, on_difference, offload_folder, cache_transfers
        As in `devplan.load`.
    offload_buffers
        Whether buffers of offloaded modules are offloaded too.

    Returns
    -------
    torch.nn.Module
        The same model.

    Raises
    ------
    InputError
        When the map cannot be read, does not cover the model, or the model has no weights.
    DeviceMapError
        When the model does not lie where the map says, one line a difference.

    Examples
    --------
    >>> devplan.apply(model, "maps/x.yaml")
    >>> devplan.apply(model, {"model.embed_tokens": 0, "model.layers": 1, "lm_head": 0})
    """
    if on_difference not in ON_DIFFERENCE:
        raise InputError(f"on_difference={on_difference!r}; give {' or '.join(ON_DIFFERENCE)}")
    target = target_of(map, devices)
    refuse_inside_offloaded(target)
    _refuse_strangers(model, target)
    if is_dispatched(model):
        bring_home(model, OFFLOAD_DEVICES)
    _refuse_without_weights(model)
    _place_bare_tensors(model, target)
    if DISK in target.devices:
        with writing_to(offload_folder) as draft:
            dispatch(
                model,
                target,
                offload_folder=str(draft.draft),
                offload_buffers=offload_buffers,
            )
            answer(audit_target(model, target), on_difference)
            kept = draft.keep(model)
        log.info("weights on disk are in %s", kept)
    else:
        dispatch(model, target, offload_buffers=offload_buffers)
        answer(audit_target(model, target), on_difference)
    if cache_transfers:
        cache_copies(model)
    return model


def _refuse_strangers(model: nn.Module, target: Target) -> None:
    known = {name for name, _ in model.named_modules(remove_duplicate=False)}
    known |= {name for name, _ in model.named_parameters(remove_duplicate=False)}
    known |= {name for name, _ in model.named_buffers(remove_duplicate=False)}
    strange = [key for key in target.entries if key not in known]
    if strange:
        entry = target.entries[strange[0]]
        where = f"{entry.file}:{entry.line}" if entry.line else target.name
        raise InputError(
            f"{where}: {type(model).__name__} has no module {strange[0]!r} ({len(strange)} of "
            f"{len(target.entries)} entries are strange to it); the map is of another model"
        )


def _refuse_without_weights(model: nn.Module) -> None:
    tensors = (*model.named_parameters(), *model.named_buffers())
    empty = [name for name, tensor in tensors if tensor.is_meta]
    if empty:
        raise InputError(
            f"{len(empty)} tensors of {type(model).__name__} are on the meta device, without "
            f"values, {empty[0]} among them; load the model: devplan.load(map, CHECKPOINT)"
        )


def _place_bare_tensors(model: nn.Module, target: Target) -> None:
    """Tensors that have an entry of their own: accelerate's hooks place modules only."""
    from accelerate.utils import set_module_tensor_to_device

    modules = {name for name, _ in model.named_modules(remove_duplicate=False)}
    for key, device in target.hf_device_map.items():
        if key not in modules and not target.is_offloaded(target.device_map[key]):
            set_module_tensor_to_device(model, key, device)
