"""Every aten op of a virtual run: computed for real, or only in shape.

An op whose tensor operands are all concrete runs for real on the CPU, unless its result would be
larger than `CONCRETE_LIMIT`; any other op runs on the meta device.  Integers that would have to
come out of abstract floats are made up (`made_up` says where): zeros, or for ``topk`` and ``sort``
the indices 0, 1, 2, ... which are distinct, as code relies on.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_unflatten

from devplan.virtual.labels import CONCRETE_LIMIT, META, is_abstract, label_of, maker_of, mark

aten = torch.ops.aten

_RANKING = {aten.topk, aten.sort, aten.argsort, aten.multinomial}
_INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._unsafe_index, aten._index_put_impl_}
_VALUE_SIZED = {aten.nonzero, aten.masked_select}
"""Ops whose result has as many elements as the operand has true values."""
_CUDA_ONLY_INTEGERS = {aten.histc}
"""Ops that CUDA computes on integers and the CPU does not: they run on floats here."""


class Execution(TorchDispatchMode):
    """Runs ops, labels their results with device and maker, and counts them.

    Attributes
    ----------
    block : str | None
        The block of the model that is running now; set by the tracer's hooks.
    num_ops : int
        Ops seen so far.
    made_up : set[str]
        Names of the ops whose integer results were made up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.block: str | None = None
        self.num_ops = 0
        self.made_up: set[str] = set()

    def result_device(self, func, args: tuple, kwargs: dict) -> torch.device | None:
        """Where the result of an op lies; on a single device, where the first operand lies."""
        flat, _ = tree_flatten((args, kwargs))
        tensors = (item for item in flat if isinstance(item, torch.Tensor))
        return next((label for item in tensors if (label := label_of(item))), None)

    def copy_to(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        """A copy of the tensor on another virtual device."""
        copy = _bare_copy(tensor)
        mark(copy, device, maker_of(tensor))
        self.made(copy)
        return copy

    def attention(self, func, args: tuple, kwargs: dict) -> torch.Tensor:
        """Attention as the one kernel that a GPU runs: no ``tokens x tokens`` matrix.

        Concrete operands are computed for real.  The result is laid out as flash attention
        leaves it, ``[batch, tokens, heads, width]`` in memory.
        """
        query, _, value = args[:3] if len(args) >= 3 else _named_operands(args, kwargs)
        if not _is_abstract_under_modes(query):
            return func(*args, **kwargs)
        *batch, heads, tokens, _ = query.shape
        result = query.new_empty((*batch, tokens, heads, value.shape[-1]))
        return result.transpose(-3, -2)

    def made(self, tensor: torch.Tensor) -> None:
        """Called for every result of an op; a place for subclasses to count."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.num_ops += 1
        device = self.result_device(func, args, kwargs or {})
        flat, spec = tree_flatten((args, kwargs or {}))
        tensors = [item for item in flat if isinstance(item, torch.Tensor)]
        abstract = any(map(is_abstract, tensors))
        packet = func.overloadpacket
        if func is aten._local_scalar_dense.default and abstract:
            return self._made_up_number(tensors[0])
        if abstract:
            args, kwargs = _as_meta(packet, flat, spec, args)
        elif _may_grow(func, tensors, flat):
            args, kwargs, abstract = _choose(func, flat, spec)
        else:
            kwargs = kwargs or {}
        if abstract and packet in _VALUE_SIZED:
            made_up = self._made_up_selection(packet, tensors[0])
            return self._finish(made_up, device, func, False)
        if packet in _CUDA_ONLY_INTEGERS and not args[0].is_floating_point():
            args = (args[0].float(), *args[1:])
        return self._finish(func(*args, **kwargs), device, func, abstract)

    def note_made_up(self, op: str) -> None:
        """An integer result of `op` had no value and was made up."""
        self.made_up.add(op)

    # ------------------------------------------------------------------------------ results

    def _finish(self, result: Any, device: torch.device | None, func, abstract: bool) -> Any:
        settle = abstract and not func._schema.is_mutable
        if isinstance(result, torch.Tensor):
            return self._settle(result, device, func, settle)
        if isinstance(result, (list, tuple)):
            done = [
                self._settle(item, device, func, settle) if isinstance(item, torch.Tensor) else item
                for item in result
            ]
            return type(result)(done)
        return result

    def _settle(self, tensor: torch.Tensor, device, func, settle: bool) -> torch.Tensor:
        """Make up small integers that have no value, and label."""
        if settle and not (_is_float(tensor) or _is_large(tensor) or func.is_view):
            self.note_made_up(str(func))
            tensor = _plausible(tensor, func.overloadpacket)
        mark(tensor, device, self.block)
        self.made(tensor)
        return tensor

    def _made_up_number(self, tensor: torch.Tensor) -> Any:
        self.note_made_up("aten._local_scalar_dense.default")
        if tensor.dtype == torch.bool:
            return False
        return 1.0 if tensor.is_floating_point() else 0

    def _made_up_selection(self, packet, tensor: torch.Tensor) -> torch.Tensor:
        """All elements are taken to be selected: the largest result that the op can have."""
        self.note_made_up(str(packet.default))
        if packet is aten.nonzero:
            return torch.empty(tensor.numel(), tensor.dim(), dtype=torch.int64, device=META)
        return torch.empty(tensor.numel(), dtype=tensor.dtype, device=META)


def _is_large(tensor: torch.Tensor) -> bool:
    return tensor.numel() > CONCRETE_LIMIT


def _bare_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that no mode sees."""
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        return tensor.detach().clone()


def _is_abstract_under_modes(tensor: torch.Tensor) -> bool:
    with torch._C.DisableTorchFunction():
        return is_abstract(tensor)


def _named_operands(args: tuple, kwargs: dict) -> tuple[torch.Tensor, ...]:
    named = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
    return named["query"], named["key"], named["value"]


def _is_float(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _plausible(tensor: torch.Tensor, packet) -> torch.Tensor:
    if packet in _RANKING and tensor.dim():
        return torch.arange(tensor.shape[-1], dtype=tensor.dtype).expand(tensor.shape).clone()
    return torch.zeros(tensor.shape, dtype=tensor.dtype)


# ------------------------------------------------------------------------- operands to meta


def _as_meta(packet, flat: list, spec, args: tuple) -> tuple[tuple, dict]:
    """Bring every operand with dimensions to the meta device; 0-dim ones may stay scalars."""
    if packet in _INDEXED:
        args = (args[0], [part for item in args[1] for part in _positions(item)], *args[2:])
        flat, spec = tree_flatten((args, {}))
    moved = [
        item.to(META) if isinstance(item, torch.Tensor) and not is_abstract(item) else item
        for item in flat
    ]
    moved = [META if isinstance(item, torch.device) else item for item in moved]
    return tree_unflatten(moved, spec)


def _positions(index: torch.Tensor | None) -> list[torch.Tensor | None]:
    """A boolean mask has no result shape on meta; the positions that it selects have."""
    if index is None or index.dtype not in (torch.bool, torch.uint8):
        return [index]
    if is_abstract(index):  # all are taken: the largest result that the mask can have
        return [torch.empty(index.numel(), dtype=torch.int64, device=META)] * index.dim()
    return list(index.nonzero().unbind(1))


def _may_grow(func, tensors: list[torch.Tensor], flat: list) -> bool:
    """Whether an op on concrete operands can make a result too large to be worth having."""
    if func.is_view:
        return False
    if not tensors:
        return True
    product = math.prod(max(tensor.numel(), 1) for tensor in tensors[:3])
    return product > CONCRETE_LIMIT or any(type(item) is int and item > 4096 for item in flat)


def _choose(func, flat: list, spec) -> tuple[tuple, dict, bool]:
    """Run in shape first; the real operands when the result is small, the abstract ones else."""
    on_meta = [
        item.to(META)
        if isinstance(item, torch.Tensor)
        else META
        if isinstance(item, torch.device)
        else item
        for item in flat
    ]
    meta_args, meta_kwargs = tree_unflatten(on_meta, spec)
    try:
        shaped = func(*meta_args, **meta_kwargs)
    except (NotImplementedError, RuntimeError):
        return *tree_unflatten(flat, spec), False  # no shape without values: compute it
    results = shaped if isinstance(shaped, (list, tuple)) else [shaped]
    largest = max((item.numel() for item in results if isinstance(item, torch.Tensor)), default=0)
    if largest > CONCRETE_LIMIT:
        return meta_args, meta_kwargs, True
    return *tree_unflatten(flat, spec), False
