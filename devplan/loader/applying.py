"""`apply`: a model that is built already, spread over the devices of a map."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from devplan.core import (
    DISK,
    OFFLOAD_DEVICES,
    InputError,
    accepts,
    flag,
    nearest,
    one_of,
    optional,
    path,
    texts,
)
from devplan.loader.auditing import audit_parts
from devplan.loader.dispatching import bring_home, dispatch, refuse_uncovered
from devplan.loader.loading import ON_DIFFERENCE, answer, cache_copies
from devplan.loader.offloading import offload_folder as writing_to
from devplan.loader.parts import Part, parts_of
from devplan.loader.target import Target, refuse_inside_offloaded, target_of
from devplan.mapfile import MapLike, model_before_map
from devplan.sandbox import exclusively
from devplan.virtual import is_dispatched

log = logging.getLogger("devplan")


@accepts(
    model=model_before_map("devplan.apply(MODEL, MAP)"),
    on_difference=one_of(*ON_DIFFERENCE),
    offload_folder=optional(path("a folder, new or empty")),
    offload_buffers=flag,
    preload_module_classes=texts("names of classes of modules as a list of texts"),
    cache_transfers=flag,
)
@exclusively
def apply(
    model: Any,
    map: MapLike,
    *,
    devices: Mapping[str, Any] | None = None,
    on_difference: str = "raise",
    offload_folder: str | Path | None = None,
    offload_buffers: bool = False,
    preload_module_classes: Sequence[str] = (),
    cache_transfers: bool = False,
) -> Any:
    """Spread a model that has its weights over the devices of a map, with accelerate's hooks.

    Ties are kept.  A model that is dispatched already is taken apart first: its offloaded weights
    come back to the CPU, which must hold them.  Of a diffusers pipeline each model is spread by its
    part of the map.

    Parameters
    ----------
    model
        A model or a diffusers pipeline, on the CPU or dispatched.
    map
        A map file, a mapping as ``from_pretrained`` takes it, or what ``read_map`` gave.
    devices, on_difference, offload_folder, cache_transfers
        As in `devplan.load`.
    offload_buffers
        Whether buffers of offloaded modules are offloaded too.
    preload_module_classes
        Classes of modules whose offloaded weights come all at once, before their ``forward``: for
        code that reads a weight of a submodule without calling that.  It is accelerate's argument.

    Returns
    -------
    The same model, or the same pipeline.

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
    target = target_of(map, devices)
    refuse_inside_offloaded(target)
    parts = parts_of(model, target)
    for part in parts:
        _refuse_strangers(part.model, part.target)
        refuse_uncovered(part.model, part.target)
    for part in parts:
        if is_dispatched(part.model):
            bring_home(part.model, OFFLOAD_DEVICES)
        _refuse_without_weights(part.model)
    how = {
        "offload_buffers": offload_buffers,
        "preload_module_classes": _classes(preload_module_classes, parts),
    }
    if DISK in target.devices:
        with writing_to(offload_folder) as draft:
            _dispatch_all(parts, draft.draft, **how)
            answer(audit_parts(parts, target), on_difference)
            kept = draft.keep(*(part.model for part in parts))
        log.info("weights on disk are in %s", kept)
    else:
        _dispatch_all(parts, None, **how)
        answer(audit_parts(parts, target), on_difference)
    cache_copies(parts, is_asked=cache_transfers)
    return model


def _classes(names: Sequence[str], parts: tuple[Part, ...]) -> tuple[str, ...]:
    """The names, all of which are classes of modules."""
    known = {type(module).__name__ for part in parts for module in part.model.modules()}
    for name in names:
        if name not in known:
            raise InputError(
                f"preload_module_classes: no module is a {name!r}{nearest(name, known)}"
            )
    return tuple(names)


def _dispatch_all(parts: tuple[Part, ...], folder: Path | None, **how: Any) -> None:
    """Each with a folder of its own below the one for weights on disk."""
    for part in parts:
        dispatch(
            part.model,
            part.target,
            offload_folder=str(folder / part.name) if folder is not None else None,
            **how,
        )


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
            f"values, {empty[0]} among them; load the model: devplan.load(CHECKPOINT, MAP)"
        )
