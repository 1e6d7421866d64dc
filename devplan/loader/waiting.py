"""Where offloaded weights wait, told without reading them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from devplan.core import CPU, DISK


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
