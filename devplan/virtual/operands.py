"""Operands of aten ops: found, brought to meta, and asked whether their result is worth having."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from devplan.virtual.labels import CONCRETE_LIMIT, META, is_abstract

_LARGE_NUMBER = 4096
"""A plain number among the arguments above which an op is asked for its result's shape first;
``arange(4096)`` is nothing, ``ones(32768, 32768)`` would be a gibibyte."""


def tensor_operands(args: tuple, kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """Tensor operands; schemas of aten ops nest them at most in one list."""
    found = []
    for item in (*args, *kwargs.values()):
        if isinstance(item, torch.Tensor):
            found.append(item)
        elif isinstance(item, (list, tuple)):
            found.extend(part for part in item if isinstance(part, torch.Tensor))
    return found


def on_meta(value: Any) -> Any:
    """Arguments with every tensor and every device brought to meta."""
    if isinstance(value, torch.Tensor):
        return value if is_abstract(value) else value.to(META)
    if isinstance(value, (list, tuple)):
        return type(value)(map(on_meta, value))
    if isinstance(value, dict):
        return {name: on_meta(item) for name, item in value.items()}
    return META if isinstance(value, torch.device) else value


def all_on_meta(args: tuple, kwargs: Mapping[str, Any], tensors: list[torch.Tensor]) -> bool:
    """Whether `on_meta` would change nothing; `tensors` are those among the arguments."""
    if not all(map(is_abstract, tensors)):
        return False
    return not any(isinstance(item, torch.device) for item in (*args, *kwargs.values()))


def selected_positions(index: torch.Tensor | None) -> list[torch.Tensor | None]:
    """A boolean mask has no result shape on meta; the positions that it selects have."""
    if index is None or index.dtype not in (torch.bool, torch.uint8):
        return [index]
    if is_abstract(index):  # all are taken: the largest result that the mask can have
        return [torch.empty(index.numel(), dtype=torch.int64, device=META)] * index.dim()
    return list(index.nonzero().unbind(1))


# ------------------------------------------------------------------------ results too large


def may_grow(func: Callable, args: tuple, kwargs: dict, tensors: list[torch.Tensor]) -> bool:
    """Whether an op on concrete operands could make a result too large to be worth having."""
    if func.is_view:
        return False
    if not tensors:
        return True
    product = math.prod(max(tensor.numel(), 1) for tensor in tensors[:3])
    return product > CONCRETE_LIMIT or any(map(_is_large_number, _plain(args, kwargs)))


def _plain(args: tuple, kwargs: Mapping[str, Any]) -> Iterable[Any]:
    for item in (*args, *kwargs.values()):
        if isinstance(item, (list, tuple)):
            yield from item
        else:
            yield item


def _is_large_number(item: Any) -> bool:
    return type(item) is int and item > _LARGE_NUMBER


def grows(func: Callable, args: tuple, kwargs: dict) -> bool:
    """Whether the result is too large, found out by running the op in shape only."""
    try:
        shaped = func(*on_meta(args), **on_meta(kwargs))
    except (NotImplementedError, RuntimeError):
        return False  # no shape without values: it has to be computed
    results = shaped if isinstance(shaped, (list, tuple)) else [shaped]
    return any(isinstance(item, torch.Tensor) and is_large(item) for item in results)


def is_large(tensor: torch.Tensor) -> bool:
    """Whether a tensor has more elements than are kept for real."""
    return tensor.numel() > CONCRETE_LIMIT


def attended(query, key, value, *args, enable_gqa=False, **kwargs):
    """Query, value, and what stands before tokens and width of the result: ``(batch, heads)``."""
    if enable_gqa:  # fewer heads of keys and values than of queries
        return query, value, query.shape[:-2]
    # Queries that are learned may come once for all windows of a sound.
    return query, value, torch.broadcast_shapes(*(x.shape[:-2] for x in (query, key, value)))


def taken_along(input, indices, dim=None, *, out=None) -> torch.Tensor:
    """``take_along_dim``: a gather of operands that are broadcast against each other.

    References
    ----------
    ``take_along_dim`` in aten/src/ATen/native/TensorAdvancedIndexing.cpp.
    """
    if dim is None:
        return input.flatten().gather(0, indices.flatten())
    at = dim % input.dim()
    shape = torch.broadcast_shapes(
        (*input.shape[:at], *input.shape[at + 1 :]),
        (*indices.shape[:at], *indices.shape[at + 1 :]),
    )
    source = input.expand(*shape[:at], input.shape[at], *shape[at:])
    return source.gather(at, indices.expand(*shape[:at], indices.shape[at], *shape[at:]))
