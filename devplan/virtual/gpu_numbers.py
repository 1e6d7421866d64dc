"""Cards by number, on a machine that has none.

``torch.device(0)`` means the first card, and PyTorch refuses it where there is no card at all.
accelerate up to 1.14 asks it of every number in ``max_memory`` (``get_balanced_memory``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch

from devplan.sandbox import exclusive, patched


@contextlib.contextmanager
def cards_by_number(module: ModuleType) -> Iterator[None]:
    """Let the code of one module take a number for a CUDA card, as on a machine with cards."""
    with exclusive(), patched(module, "torch", _TorchWithCards()):
        yield


class _DeviceKind(type):
    def __instancecheck__(cls, item: Any) -> bool:
        return isinstance(item, torch.device)


class _Device(metaclass=_DeviceKind):
    """``torch.device``, for which a number is a CUDA card."""

    def __new__(cls, device: Any, *index: Any) -> Any:
        return (
            torch.device("cuda", device)
            if isinstance(device, int)
            else torch.device(device, *index)
        )


class _TorchWithCards:
    device = _Device

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)
