"""accelerate's own dispatch, called with what ``from_pretrained`` does not tell it.

``from_pretrained`` dispatches by itself where a map names more than one device, and leaves the
main device to accelerate, which takes the lowest index (`devplan.core.devices`).  Where
that is not the map's, the hooks are taken off and put on again; the weights stay where they are.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from devplan.checker import unwrapped
from devplan.core import CPU, InputError, joined, to_hf_device, wrong
from devplan.loader.parts import is_pipeline
from devplan.loader.target import Target
from devplan.virtual import (
    OffloadedTensors,
    device_text,
    forget_hook,
    hook_device,
    input_device,
    is_dispatched,
    offloaded_weights,
    offloaded_weights_of,
    skipped_keys,
    spelled_out_map,
)

log = logging.getLogger("devplan")


def settle(model: nn.Module, target: Target, *, offload_buffers: bool = False) -> None:
    """Hooks for a model whose weights lie where the map says, unless it has the right ones."""
    if not target.needs_hooks:
        return
    if is_dispatched(model) and hook_device(model) == target.main_device:
        return
    index = None
    if is_dispatched(model):
        log.info("accelerate's hooks are attached again: inputs enter on %s", target.main_device)
        index = index_on_disk(model)
        bring_home(model, (CPU,))
    dispatch(model, target, offload_index=index, offload_buffers=offload_buffers)


def dispatch(
    model: nn.Module,
    target: Target,
    *,
    offload_index: dict[str, Any] | None = None,
    offload_folder: str | None = None,
    offload_buffers: bool = False,
    preload_module_classes: Sequence[str] = (),
) -> None:
    """Weights to their devices and hooks on the modules, with the main device of the map.

    Raises
    ------
    InputError
        When tensors of the model are in no entry of the map.
    """
    import accelerate
    from accelerate.utils import find_tied_parameters

    refuse_uncovered(model, target)
    tied = find_tied_parameters(model) if offload_folder is not None else ()
    _place_bare_tensors(model, target)
    accelerate.dispatch_model(
        model,
        device_map=dict(spelled_out_map(model, target.hf_device_map)),
        main_device=target.hf_main_device,
        offload_index=offload_index,
        offload_dir=offload_folder,
        offload_buffers=offload_buffers,
        skip_keys=skipped_keys(model),
        preload_module_classes=list(preload_module_classes) or None,
        force_hooks=target.needs_hooks,
    )
    if offload_folder is not None:
        link_ties(tied, offload_folder)


def link_ties(tied: Iterable[Sequence[str]], folder: str | Path) -> None:
    """Make the files of one tensor in an offload folder one file, where accelerate wrote several.

    Parameters
    ----------
    tied
        Names of one tensor, each.
    """
    for names in tied:
        files = [Path(folder) / f"{name}.dat" for name in names]
        first, *others = [file for file in files if file.is_file()] or [None]
        for other in others:
            if not other.samefile(first):
                other.unlink()
                _link(other, first)


def _link(name: Path, file: Path) -> None:
    try:
        os.link(file, name)
    except OSError:  # a file system without hard links
        name.symlink_to(file.name)


def refuse_uncovered(model: nn.Module, target: Target) -> None:
    """Refuse a map that does not say of every tensor where it lies.

    Raises
    ------
    InputError
        With the first tensor that is in no entry.
    """
    names = [name for name in model.state_dict(keep_vars=True) if target.device_of(name) is None]
    if names:
        raise InputError(
            f"{target.name}: {len(names)} tensors of {type(model).__name__} are in no entry of the "
            f"map, such as {names[0]}; add an entry for it, or plan again: devplan suggest"
        )


def _place_bare_tensors(model: nn.Module, target: Target) -> None:
    """Tensors that have an entry of their own: accelerate's hooks place modules only."""
    from accelerate.utils import set_module_tensor_to_device

    tensors = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tensors |= {name for name, _ in model.named_buffers(remove_duplicate=False)}
    for key, device in spelled_out_map(model, target.hf_device_map).items():
        if key in tensors and not target.is_offloaded(target.device_of(key)):
            set_module_tensor_to_device(model, key, device)


def index_on_disk(model: nn.Module) -> dict[str, Any] | None:
    """Where the weights on disk are: name -> file; None where there are none."""
    weights = offloaded_weights(model)
    return dict(weights.index) if weights is not None and weights.index else None


def bring_home(model: nn.Module, tiers: Collection[str]) -> None:
    """Take the hooks off, and make weights that waited on these tiers parameters on the CPU.

    accelerate's own removal reads every weight, those on disk too, and wants values for buffers
    that were never offloaded; here nothing else moves.
    """
    from accelerate.utils import find_tied_parameters, set_module_tensor_to_device
    from accelerate.utils.modeling import retie_parameters

    tied, waiting = find_tied_parameters(model), OffloadedTensors(offloaded_weights(model))
    for module_name, module in model.named_modules():
        weights = offloaded_weights_of(module)
        if weights is None:
            continue
        for name, tensor in (*_own_parameters(module), *_own_buffers(module)):
            full_name = joined(module_name, name)
            if tensor.is_meta and waiting.tier(full_name) in tiers:
                set_module_tensor_to_device(module, name, "cpu", value=weights[name])
    for module in model.modules():
        forget_hook(module)
    retie_parameters(model, tied)


def _own_parameters(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(module.named_parameters(recurse=False))


def _own_buffers(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return list(module.named_buffers(recurse=False))


def to_main(model: nn.Module | Any, inputs: Any) -> Any:
    """Move nested inputs to the device where they enter a model.

    Parameters
    ----------
    model
        A model that `load` or `apply` gave, or any model with accelerate's hooks; of a model
        without hooks, the device of its first parameter.  Of a diffusers pipeline the device where
        it makes its latents, to which its own code moves what it is given.
    inputs
        Tensors in lists, tuples and mappings, however nested, or what a tokenizer or processor
        gave.  All else stays as it is; dtypes are not touched.

    Returns
    -------
    The same structure, of the same types.

    Examples
    --------
    >>> inputs = devplan.to_main(model, processor(images=image, text=text, return_tensors="pt"))
    >>> model.generate(**inputs)
    """
    from accelerate.utils import send_to_device

    if is_pipeline(model):
        device = device_text(model._execution_device)
    elif isinstance(model, nn.Module):
        device = input_device(unwrapped(model))
    else:
        raise wrong("model", model, "a loaded model or a diffusers pipeline, before the inputs")
    return send_to_device(inputs, to_hf_device(device))
