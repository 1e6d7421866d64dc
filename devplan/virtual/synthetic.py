"""Values that a virtual run has to make up: integers and truths that come out of abstract floats.

* The token that ``argmax`` or sampling chooses is one that does not end ``generate``.
* The indices of ``topk`` and ``sort`` are distinct, as code relies on: 0, 1, 2, ..., or those
  after the stop tokens where the code between the blocks chooses tokens with them.
* ``all`` is true: code asks it before it raises.
* What transformers' ``generate`` compares is true: a beam may still improve, so the search goes on.
* An integer that is made of clamped numbers is no smaller than they are: a length is at least 1.
* Everything else is 0, and every comparison false.

A run that fails may be repeated with other values at one place (`Choice.raised_at`): a value that
decides whether the code raises is thereby tried both ways.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from devplan.virtual import source_lines

aten = torch.ops.aten

_RANKING = {aten.topk, aten.sort, aten.argsort, aten.multinomial}
_CHOOSING = {aten.argmax, aten.topk, aten.multinomial}
"""Ops by which ``generate`` chooses tokens."""
_COMPARING = {aten.gt, aten.ge, aten.lt, aten.le}
_GENERATING = "transformers/generation/"


_CLAMPING = {aten.clamp_min, aten.clamp}


@dataclass(frozen=True, kw_only=True)
class Given:
    """What is known of an integer result whose value is not."""

    num_choices: int = 0
    """How many tokens the code between the blocks chooses from; 0: it chooses none."""
    least: int = 0


NOTHING_GIVEN = Given()


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which values are made up, where there is a choice."""

    stop_tokens: frozenset[int] = frozenset()
    """Tokens that end ``generate``."""
    raised_at: frozenset[str] = frozenset()
    """Lines of code (``file:line``) at which values are 1 and true instead of 0 and false."""

    def fill(self, tensor: torch.Tensor, func: Any, given: Given) -> torch.Tensor:
        """Values for an integer or boolean result of an op.

        Parameters
        ----------
        tensor
            The result, without values.
        func
            The op.
        given
            What its operands say of the result.
        """
        packet = func.overloadpacket
        if self.raised_at and str(source_lines.current_source()) in self.raised_at:
            return torch.ones(tensor.shape, dtype=tensor.dtype)
        if packet is aten.all or (packet in _COMPARING and _is_generating()):
            return torch.ones(tensor.shape, dtype=tensor.dtype)
        width = tensor.shape[-1] if packet in _RANKING and tensor.dim() else 1
        first = max(self._first_free(width, given.num_choices), given.least)
        if packet in _RANKING and tensor.dim():
            ranks = torch.arange(first, first + width, dtype=tensor.dtype)
            return ranks.expand(tensor.shape).clone()
        return torch.full(tensor.shape, first, dtype=tensor.dtype)

    def number(self, tensor: torch.Tensor) -> Any:
        """The value of a tensor with one element."""
        raised = bool(self.raised_at) and str(source_lines.current_source()) in self.raised_at
        if tensor.dtype == torch.bool:
            return raised
        return 1.0 if tensor.is_floating_point() else int(raised)

    def _first_free(self, width: int, num_choices: int) -> int:
        """The first of `width` tokens in a row none of which ends ``generate``; 0 without room."""
        first = 0
        for token in sorted(self.stop_tokens):
            if first <= token < first + width:
                first = token + 1
        return first if first + width <= num_choices else 0


def given_by(func: Any, args: Sequence[Any], *, between_blocks: bool) -> Given:
    """What the operands of an op say of its result; tokens are chosen between the blocks."""
    packet = func.overloadpacket
    if packet in _CHOOSING and between_blocks and args[0].dim():
        return Given(num_choices=args[0].shape[-1])
    if packet is aten._to_copy:
        return Given(least=getattr(args[0], "_devplan_least", 0))
    return NOTHING_GIVEN


def with_least(func: Any, args: Sequence[Any], result: Any) -> Any:
    """The result of an op, with the bound below which it was clamped."""
    if func.overloadpacket in _CLAMPING and len(args) > 1 and _is_finite(args[1]):
        result._devplan_least = math.ceil(args[1])
    return result


def _is_generating() -> bool:
    source = source_lines.current_source()
    return source is not None and source.file.startswith(_GENERATING)


def _is_finite(number: Any) -> bool:
    return isinstance(number, (int, float)) and math.isfinite(number)
