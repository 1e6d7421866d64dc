"""accelerate's hooks, read: which module runs where, and where offloaded weights wait.

A module's ``_hf_hook`` is one hook, or a ``SequentialHook`` of several.  All offloaded modules
share one ``OffloadedWeightsLoader``, each behind a ``PrefixedDataset`` with its own name
(``accelerate/hooks.py`` and ``accelerate/utils/offload.py``, 0.34 to 1.15).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from devplan.core import CPU, DISK
from devplan.runtime import align_hooks


def is_dispatched(model: nn.Module) -> bool:
    """Whether accelerate moves this model's inputs."""
    return any(True for _ in align_hooks(model))


def device_text(device: Any) -> str:
    """A device of a hook or tensor, as devplan writes devices: ``0`` is ``cuda:0``."""
    if isinstance(device, int):
        return f"cuda:{device}"
    found = torch.device(device)
    return f"{found.type}:{found.index or 0}" if found.type not in ("cpu", "meta") else found.type


def execution_device(module: nn.Module) -> str | None:
    """Where a module runs; None where no hook says so."""
    for hook in align_hooks(module):
        if hook.execution_device is not None:
            return device_text(hook.execution_device)
    return None


def main_device(model: nn.Module) -> str:
    """Where the inputs of a model enter: by its root hook, else beside its first tensor."""
    found = execution_device(model)
    if found is not None:
        return found
    tensors = (*model.parameters(), *model.buffers())
    return device_text(tensors[0].device) if tensors else "cpu"


def weights_of(module: nn.Module) -> Any | None:
    """Name inside the module -> tensor, for a module whose weights wait elsewhere."""
    for hook in align_hooks(module):
        if hook.offload:
            return hook.weights_map
    return None


def offloaded_weights(model: nn.Module) -> Any | None:
    """The one place where all offloaded weights wait; None where none do."""
    for module in model.modules():
        waiting = weights_of(module)
        dataset = getattr(waiting, "dataset", waiting)
        if hasattr(dataset, "all_keys"):
            return dataset
    return None


class Waiting:
    """The weights behind the hooks of a model; none where `weights` is None."""

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
