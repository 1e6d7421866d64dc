"""Flops of an op and the bytes that it reads, from its operands: one function a kind of op."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

aten = torch.ops.aten

Counted = tuple[int, tuple[tuple[torch.Tensor, int], ...]]
"""Flops, and what was read."""


def attention_flops(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **_) -> int:
    """Of scores and values; kernels skip the half that a causal mask hides."""
    *batch, heads, tokens, width = query.shape
    pairs = math.prod(batch) * heads * tokens * key.shape[-2]
    return 2 * pairs * (width + value.shape[-1]) // (2 if is_causal and tokens > 1 else 1)


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _product(left: int, right: int) -> Callable[..., Counted]:
    """A product of the operands at two positions, ``[.., m, k] x [.., k, n]``."""

    def count(args: tuple, kwargs: Mapping, result: torch.Tensor) -> Counted:
        a, b = args[left], args[right]
        if not result.numel():
            return 0, ()
        flops = 2 * a.numel() * b.shape[-1]
        return flops, ((a, _size(a)), (b, _size(b)))

    return count


def _grouped(args: tuple, kwargs: Mapping, result: torch.Tensor) -> Counted:
    """Groups of rows, each with its own matrix: ``[m, k] x [groups, k, n]``."""
    rows, weights = args[0], args[1]
    if not result.numel():
        return 0, ()
    used = min(rows.shape[0], weights.shape[0]) if weights.dim() == 3 else 1
    share = used / weights.shape[0] if weights.dim() == 3 else 1.0
    return 2 * rows.numel() * weights.shape[-1], ((weights, int(_size(weights) * share)),)


def _convolution(args: tuple, kwargs: Mapping, result: torch.Tensor) -> Counted:
    weight, transposed = args[1], bool(args[6]) if len(args) > 6 else False
    shape = args[0] if transposed else result
    positions = shape.shape[0] * math.prod(shape.shape[2:])
    return 2 * positions * weight.numel(), ((weight, _size(weight)),)


def _look_up(args: tuple, kwargs: Mapping, result: torch.Tensor) -> Counted:
    return 0, ((args[0], _size(result)),)


COUNTED_OPS: Mapping[Any, Callable[..., Counted]] = {
    aten.mm: _product(0, 1),
    aten.bmm: _product(0, 1),
    aten.addmm: _product(1, 2),
    aten.baddbmm: _product(1, 2),
    aten.convolution: _convolution,
    aten.embedding: _look_up,
    aten.index: _look_up,
    aten.index_select: _look_up,
    **({aten._grouped_mm: _grouped} if hasattr(aten, "_grouped_mm") else {}),
    **({aten._scaled_mm: _product(0, 1)} if hasattr(aten, "_scaled_mm") else {}),
}
"""Ops that do the arithmetic of a model or fetch its weights; others look at activations."""
