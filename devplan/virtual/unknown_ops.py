"""Ops that do not say what they give: of other packages, with kernels for real devices alone.

PyTorch asks a *shape function* (a Meta kernel, a "fake" implementation) what an op gives for
operands without values.  Where there is none,

1. the CPU kernel is run on zeros, where the op has one and no operand is too large, else
2. what is written to is what it was, and any other result is taken to be like the first operand.

The second is a guess, so the op is reported with it.  An op that gives numbers, or that has no
tensor operand, cannot be guessed: the exception that PyTorch raised is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_map

from devplan.virtual.labels import CPU, META
from devplan.virtual.operands import tensors_in

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
        tensors = tensors_in(args, kwargs)
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
