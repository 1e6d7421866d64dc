"""accelerate's hook objects: the only file that reads or changes them.

A module's ``_hf_hook`` is one hook, or a ``SequentialHook`` of several.  All offloaded modules
share one ``OffloadedWeightsLoader``, each behind a ``PrefixedDataset`` with its own name
(``accelerate/hooks.py`` and ``accelerate/utils/offload.py``, 0.34 to 1.15).  accelerate documents
none of these attributes; `devplan.environment.private_names` lists them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from devplan.core import CPU, DISK

if TYPE_CHECKING:
    from accelerate.hooks import AlignDevicesHook


def own_hook(module: nn.Module) -> Any | None:
    """The hook that hangs on the module itself.

    Adapters answer with the attributes of the module inside, so that only ``vars`` is sure.
    """
    return vars(module).get("_hf_hook")


def align_hooks(module: nn.Module) -> Iterator[AlignDevicesHook]:
    """The hooks that move a module's inputs, those inside a sequence of hooks among them."""
    hook = own_hook(module)
    if hook is not None:  # nothing of accelerate's is imported for a model that has none of it
        yield from _aligning(hook)


def _aligning(hook: Any) -> Iterator[AlignDevicesHook]:
    from accelerate.hooks import AlignDevicesHook, SequentialHook

    if isinstance(hook, SequentialHook):
        for each in hook.hooks:
            yield from _aligning(each)
    elif isinstance(hook, AlignDevicesHook):
        yield hook


def is_dispatched(model: nn.Module) -> bool:
    """Whether accelerate moves this model's inputs."""
    return any(True for _ in align_hooks(model))


def device_text(device: Any) -> str:
    """A device of a hook or tensor, as devplan writes devices: ``0`` is ``cuda:0``."""
    if isinstance(device, int):
        return f"cuda:{device}"
    found = torch.device(device)
    return f"{found.type}:{found.index or 0}" if found.type not in ("cpu", "meta") else found.type


def hook_device(module: nn.Module) -> str | None:
    """Where a module runs; None where no hook says so."""
    for hook in align_hooks(module):
        if hook.execution_device is not None:
            return device_text(hook.execution_device)
    return None


def hook_devices(module: nn.Module) -> tuple[str, ...]:
    """Where each of the hooks of a module runs it, as accelerate has it."""
    return tuple(str(hook.execution_device) for hook in align_hooks(module))


def places_all_inside(module: nn.Module) -> bool:
    """Whether a hook brings the weights of all modules inside (``preload_module_classes``)."""
    return any(hook.offload and hook.place_submodules for hook in align_hooks(module))


def brings_output_back(module: nn.Module) -> bool:
    """Whether a hook moves the output of a module to the device of its input."""
    return any(hook.io_same_device for hook in align_hooks(module))


def input_device(model: nn.Module) -> str:
    """Where the inputs of a model enter: by its root hook, else beside its first tensor."""
    found = hook_device(model)
    if found is not None:
        return found
    tensors = (*model.parameters(), *model.buffers())
    return device_text(tensors[0].device) if tensors else "cpu"


def offloaded_weights_of(module: nn.Module) -> Any | None:
    """Name inside the module -> tensor, for a module whose weights wait elsewhere."""
    for hook in align_hooks(module):
        if hook.offload:
            return hook.weights_map
    return None


def offloaded_weights(model: nn.Module) -> Any | None:
    """The one place where all offloaded weights wait; None where none do."""
    for module in model.modules():
        waiting = offloaded_weights_of(module)
        dataset = getattr(waiting, "dataset", waiting)
        if hasattr(dataset, "all_keys"):
            return dataset
    return None


class OffloadedTensors:
    """Where the offloaded weights of a model are, found without reading one."""

    def __init__(self, weights: Any | None) -> None:
        self._on_cpu = {} if weights is None else weights.state_dict
        self._on_disk = {} if weights is None else weights.index
        self._folder = None if weights is None else weights.save_folder

    def tier(self, name: str) -> str | None:
        """``cpu`` or ``disk``; None where no values are, as when their file is gone."""
        if name in self._on_cpu:
            return None if self._on_cpu[name].is_meta else CPU
        place = self._on_disk.get(name)
        return DISK if place is not None and self._file(name, place).is_file() else None

    def identity(self, name: str) -> Any:
        """The same for names of one tensor."""
        if name in self._on_cpu:
            return storage_of(self._on_cpu[name])
        place = self._on_disk.get(name)
        if place is None:
            return None
        file = self._file(name, place)
        inside = place.get("weight_name")
        if inside is not None or not file.is_file():
            return str(file), inside or name
        found = file.stat()  # [ties] files of one tensor are one
        return found.st_dev, found.st_ino

    def _file(self, name: str, place: dict[str, Any]) -> Path:
        """As accelerate finds it: a safetensors file, or its own ``.dat`` in the folder."""
        file = place.get("safetensors_file")
        return Path(file) if file is not None else Path(self._folder or "") / f"{name}.dat"


def storage_of(tensor: torch.Tensor) -> int:
    """The same for tensors of one storage; a tensor that has none is told from all others."""
    try:
        return tensor.data_ptr() or id(tensor)
    except RuntimeError:  # a tensor that stands for others
        return id(tensor)


def files_have_moved(weights: Any, before: Path, after: Path) -> None:
    """Let accelerate find the files of offloaded weights below another folder."""
    if weights.save_folder is not None:
        weights.save_folder = _moved(weights.save_folder, before, after)
    for name, place in weights.index.items():
        file = place.get("safetensors_file")
        if file is not None:
            weights.index[name] = {**place, "safetensors_file": _moved(file, before, after)}


def _moved(path: str | os.PathLike, before: Path, after: Path) -> str:
    """A path below a folder that has moved, or any other path as it is."""
    whole = Path(os.path.abspath(path))
    return str(after / whole.relative_to(before)) if whole.is_relative_to(before) else str(path)


def forget_hook(module: nn.Module) -> None:
    """Remove a module's hook without its own return of weights."""
    from accelerate.hooks import remove_hook_from_module

    for hook in align_hooks(module):
        hook.original_devices = {}
    remove_hook_from_module(module)


def remove_hooks(model: nn.Module) -> None:
    """Remove the hook of each module that has one of its own."""
    from accelerate.hooks import remove_hook_from_module

    for module in model.modules():
        if own_hook(module) is not None:
            remove_hook_from_module(module)


def idle_hook() -> Any:
    """A hook that does nothing."""
    from accelerate.hooks import ModelHook

    return ModelHook()
