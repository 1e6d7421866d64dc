"""Results that a model's code remembers beyond a run: ``lru_cache`` over tensors.

Anchors and position embeddings are made once for a size and a device (RT-DETR, DETR, DINOv3).  A
later run, virtual or real, must not get tensors that have no data, nor a virtual run real ones.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

_Cached = type(functools.cache(len))
_EMPTY = types.CellType()


def forget_results(classes: Iterable[type]) -> None:
    """Clear what methods of these classes, and functions beside these classes, remember."""
    found = {base for cls in set(classes) for base in cls.__mro__ if not _is_torch(base)}
    modules = {cls.__module__ for cls in found}
    for cls in found:
        _forget(vars(cls).values())
    for name in modules & sys.modules.keys():
        content = vars(sys.modules[name]).values()
        _forget(value for value in content if getattr(value, "__module__", None) == name)


def _is_torch(cls: type) -> bool:
    """Whether it is PyTorch's own, or Python's; neither remembers tensors."""
    return cls.__module__.partition(".")[0] in ("torch", "builtins", "abc", "typing")


def _forget(values: Iterable[Any]) -> None:
    for value in list(values):
        for part in _parts(value):
            if isinstance(part, _Cached):
                part.cache_clear()


def _parts(value: Any) -> Iterator[Any]:
    """A function, and the one that it wraps: transformers' own decorator keeps it in a cell."""
    value = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    yield value
    if isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            if cell != _EMPTY:
                yield cell.cell_contents
