"""Values of small integer buffers, which a model on the meta device would lose.

``torch.tensor(self.stride)`` in an ``__init__`` has a value that later code computes with; on the
meta device only its shape is left.  While a class is built, integer tensors are made a second time
on the CPU, and the second one is remembered with the first (`value_of`).  What comes out of floats
has no value.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._pytree import tree_leaves, tree_map

MOST_ELEMENTS = 2**20
"""Elements up to which a value is worth having: as many as a virtual run keeps for real."""

_FACTORIES = frozenset(_device_constructors())


def value_of(tensor: torch.Tensor) -> torch.Tensor | None:
    """The value that a meta tensor was made with; None where none is known."""
    return getattr(tensor, "_devplan_value", None)


class RememberIntegers(TorchFunctionMode):
    """Lets integer tensors on the meta device remember their values."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if _is_small_integer(result) and value_of(result) is None:
            value = _again(func, args, kwargs)
            if isinstance(value, torch.Tensor) and value.shape == result.shape:
                result._devplan_value = value
        return result


def _is_small_integer(result: Any) -> bool:
    if not isinstance(result, torch.Tensor) or not result.is_meta:
        return False
    is_number = result.is_floating_point() or result.is_complex()
    return not is_number and result.numel() <= MOST_ELEMENTS


def _again(func, args: tuple, kwargs: dict) -> Any:
    """The same call on the CPU, where the values of all its operands are known."""
    operands = [item for item in tree_leaves((args, kwargs)) if isinstance(item, torch.Tensor)]
    if any(item.is_meta and value_of(item) is None for item in operands):
        return None
    args, kwargs = tree_map(_with_value, (args, kwargs))
    if func in _FACTORIES:
        kwargs = {**kwargs, "device": "cpu"}
    elif not operands:
        return None
    try:
        with torch.device("cpu"):
            return func(*args, **kwargs)
    except (RuntimeError, TypeError):
        return None  # a value is a help, not a need


def _with_value(item: Any) -> Any:
    if isinstance(item, torch.device):
        return torch.device("cpu")
    return value_of(item) if isinstance(item, torch.Tensor) and item.is_meta else item
