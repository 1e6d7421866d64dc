"""Where classes of other libraries are built from values of a file: what they raise is one line.

A class that is given values it was not written for raises whatever its code comes to: of a
library's own kind, a TypeError, an OverflowError, a RecursionError, no memory.  Each means that the
file does not fit the class, and none is a mistake of devplan's.  Only the call into the library
stands inside `of_the_library`: what devplan does with the result is its own matter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._pytree import tree_leaves, tree_map

from devplan.core import DevplanError, InputError, one_line

# ``torch.tensor(self.stride)`` in an ``__init__`` has a value that later code computes with; on
# the meta device only its shape is left. While a class is built, integer tensors are made a
# second time on the CPU, and the copy is remembered with the first (`value_of`). A tensor that is
# computed from floats has no value.

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


MOST_CALLS = 500_000
"""Tensors that are made or filled while one model is built: three or so for each tensor that it
keeps.  The largest that are known, with 100,000 tensors, need 300,000."""


@contextlib.contextmanager
def of_the_library(said: str, remedy: str = "correct its config.json") -> Iterator[None]:
    """Turn what another library raises inside into one line: `said`, the error, `remedy`.

    Raises
    ------
    InputError
        For every exception that is not devplan's own.
    """
    try:
        yield
    except DevplanError:
        raise
    except ImportError as error:
        raise InputError(f"{said}: {one_line(error)}") from error
    except BaseException as error:
        if not is_of_a_library(error):
            raise
        raise InputError(f"{said} ({type(error).__name__}: {one_line(error)}); {remedy}") from error


def is_of_a_library(error: BaseException) -> bool:
    """Whether a library raised it, and neither the user nor a limit of time ended what ran.

    [panic] Libraries in Rust (tokenizers, safetensors) raise what is no Exception when they panic.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


class CountedBuilding(RememberIntegers):
    """Stops a class that makes tensors without end."""

    def __init__(self, id: str) -> None:
        super().__init__()
        self.id = id
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None):
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise InputError(
                f"{self.id}: building it makes more than {MOST_CALLS:,} tensors, which is more "
                "than devplan builds; correct the number of layers or experts in its config.json"
            )
        return super().__torch_function__(func, types, args, kwargs)
