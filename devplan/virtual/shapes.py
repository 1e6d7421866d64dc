"""Results of ops on abstract operands: remembered, or guessed where an op has no shape function.

The result of an op on meta tensors depends on the op, on shape, stride and dtype of its operands,
on its other arguments and on the default dtype.  Layers are alike, so most calls of a run were made
before, while PyTorch works out many shapes in Python.  A result that was seen is made again from
its own shape, stride and dtype.

Exceptions, which are run every time: ops that write, ops that give views or lists, results that
share memory with an operand or that are no plain new tensors, calls with arguments that cannot be
compared.  A call that raises is not remembered, and raises again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from devplan.virtual.labels import CPU, META
from devplan.virtual.operands import tensor_operands

MOST_KNOWN = 2**14
"""Results that are remembered, a kilobyte each.  The forward of a large model has some hundreds;
code that loops over tokens with growing shapes has no end of them."""

_TENSORS = frozenset((torch.Tensor, nn.Parameter))
_VALUES = frozenset(
    (
        *(bool, int, float, str, type(None)),
        *(torch.dtype, torch.device, torch.layout, torch.memory_format),
    )
)


class _Layout(tuple):
    """Shape, stride and dtype of a tensor that begins where its storage does."""

    __slots__ = ()


def _raise(func: Callable, error: NotImplementedError, args: tuple, kwargs: Mapping) -> Any:
    raise error


def _call(func: Callable, args: tuple, kwargs: Mapping[str, Any], otherwise: Callable) -> Any:
    try:
        return func(*args, **kwargs)
    except NotImplementedError as error:
        return otherwise(func, error, args, kwargs)


class KnownShapes:
    """Results of ops on abstract operands; one for a run."""

    def __init__(self) -> None:
        self._results: dict[tuple, _Layout | tuple[_Layout, ...]] = {}

    def call(
        self, func: Callable, args: tuple, kwargs: Mapping[str, Any], otherwise: Callable = _raise
    ) -> Any:
        """``func(*args, **kwargs)``, where every tensor is on meta.

        `otherwise` is asked for the result where the op has no shape function; it gets the op, the
        exception that says so, and the arguments.
        """
        key = _key(func, args, kwargs) if _makes_new_tensors(func) else None
        if key is None:
            return _call(func, args, kwargs, otherwise)
        known = self._results.get(key)
        if known is not None:
            return _make(known) if type(known) is _Layout else tuple(map(_make, known))
        result = _call(func, args, kwargs, otherwise)
        layouts = _layouts(result, tensor_operands(args, kwargs))
        if layouts is not None and len(self._results) < MOST_KNOWN:
            self._results[key] = layouts
        return result


@cache
def _makes_new_tensors(func) -> bool:
    """Whether the op says that all it gives are tensors of its own."""
    schema = func._schema
    return not (schema.is_mutable or func.is_view) and all(
        str(item.type) == "Tensor" and item.alias_info is None for item in schema.returns
    )


def _key(func: Callable, args: tuple, kwargs: Mapping[str, Any]) -> tuple | None:
    """Equal for calls with the same result; None where that cannot be said."""
    key = [func, torch.get_default_dtype(), len(args)]
    for item in args:
        if not _add(item, key):
            return None
    for name, item in kwargs.items():
        key.append(name)
        if not _add(item, key):
            return None
    return tuple(key)


def _add(item: Any, key: list) -> bool:
    """Put what matters of an argument into the key; whether that could be done."""
    kind = type(item)
    if kind in _TENSORS:
        if item.layout is not torch.strided or item.dtype.is_complex or item.is_quantized:
            return False
        key += (item.shape, item.stride(), item.dtype)
        return True
    if kind in _VALUES:
        key += (kind, item)  # 1, 1.0 and True are equal, and give other dtypes
        return True
    if kind is list or kind is tuple:
        key.append(len(item))
        return all(_add(part, key) for part in item)
    return False


def _make(layout: _Layout) -> torch.Tensor:
    shape, stride, dtype = layout
    return torch.empty_strided(shape, stride, dtype=dtype, device=META)


def _layouts(result: Any, operands: list[torch.Tensor]) -> _Layout | tuple[_Layout, ...] | None:
    """How to make the result again; None where it is more than new tensors."""
    tensors = result if isinstance(result, tuple) else (result,)
    storages = {tensor.untyped_storage()._cdata for tensor in operands}
    layouts = []
    for tensor in tensors:
        if type(tensor) is not torch.Tensor or tensor.layout is not torch.strided:
            return None
        storage = tensor.untyped_storage()
        layout = _Layout((tensor.shape, tensor.stride(), tensor.dtype))
        is_whole = not tensor.storage_offset() and (
            storage.nbytes() == _make(layout).untyped_storage().nbytes()
        )
        if storage._cdata in storages or not is_whole or tensor.dtype.is_complex:
            return None
        storages.add(storage._cdata)
        layouts.append(layout)
    return tuple(layouts) if isinstance(result, tuple) else layouts[0]


# Ops without a shape function (a Meta kernel, a "fake" implementation): ops of other packages
# with kernels for real devices only. The CPU kernel is run on zeros, where the op has one and no
# operand is too large. Otherwise a tensor that is written to keeps its shape, and any other
# result is assumed to be like the first operand: a guess, with which the op is reported. An op
# that gives numbers, or that has no tensor operand, cannot be guessed, and PyTorch's exception is
# raised.

MOST_ELEMENTS = 2**24
"""Of an operand that is made of zeros: a weight of 4096 x 4096.  Measured on one core, a product of
it with 2,048 tokens takes 1 s in float32; it is run once for every shape."""


class Guess:
    """What an op without a shape function gives; is called in place of the op.

    Attributes
    ----------
    guessed : set[str]
        Names of ops whose results are guesses.
    """

    def __init__(self) -> None:
        self.guessed: set[str] = set()

    def __call__(self, func: Callable, error: NotImplementedError, args: tuple, kwargs: Mapping):
        """The result on meta.

        Raises
        ------
        NotImplementedError
            `error`, where nothing can be said.
        """
        tensors = tensor_operands(args, kwargs)
        if not func._schema.is_mutable and all(t.numel() <= MOST_ELEMENTS for t in tensors):
            try:
                result = func(*tree_map(_zeros, args), **tree_map(_zeros, dict(kwargs)))
                return tree_map(_shape_only, result)
            except Exception:  # no CPU kernel, or one that refuses zeros
                pass
        results = list(self._guessed(func, error, args, kwargs, tensors))
        return results[0] if len(results) == 1 else tuple(results) if results else None

    def _guessed(self, func, error, args, kwargs, tensors: list) -> Iterator[torch.Tensor]:
        schema = func._schema
        given = {item.name: value for item, value in zip(schema.arguments, args, strict=False)}
        given.update(kwargs)
        for item in schema.returns:
            if str(item.type) != "Tensor" or not tensors:
                raise error
            target = next((given[a.name] for a in schema.arguments if _same(a, item)), None)
            if target is None:
                self.guessed.add(str(func))
                target = torch.empty_like(tensors[0], device=META)
            yield target


def _same(argument: Any, result: Any) -> bool:
    """Whether a result is an argument that was written to: both carry one alias set."""
    one, other = argument.alias_info, result.alias_info
    return bool(one and other and one.before_set & other.before_set)


def _zeros(value: Any) -> Any:
    """A tensor as the CPU kernel takes it."""
    if isinstance(value, torch.Tensor):
        return torch.zeros_like(value, device=CPU)
    return CPU if isinstance(value, torch.device) else value


def _shape_only(value: Any) -> Any:
    return value.to(META) if isinstance(value, torch.Tensor) else value
