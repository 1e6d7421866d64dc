"""Gradients through what a virtual run does in place of an op that autograd knows.

A copy to another device and a fused attention are made by hand.  The graph of a user's own
training step must not end there: the gradient of a copy is copied back, those of attention are as
large as its operands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

Backward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Gradient of the result, and the operand -> gradient of the operand."""


def with_gradients(
    make: Callable[[], torch.Tensor], operands: Sequence[Any], backward: Backward
) -> torch.Tensor:
    """What `make` makes of `operands`, as a node of autograd's graph where one is wanted."""
    if not torch.is_grad_enabled():
        return make()
    tensors = [each for each in operands if isinstance(each, torch.Tensor)]
    with torch._C.DisableTorchFunction():
        wanted = any(each.requires_grad for each in tensors)
    return _ByHand.apply(make, backward, *tensors) if wanted else make()


class _ByHand(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, make: Callable[[], torch.Tensor], backward: Backward, *operands: torch.Tensor
    ) -> torch.Tensor:
        ctx.operands, ctx.rule = operands, backward
        return make()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        wanted = ctx.needs_input_grad[2:]
        gradients = [
            ctx.rule(gradient, operand) if is_wanted else None
            for operand, is_wanted in zip(ctx.operands, wanted, strict=True)
        ]
        return (None, None, *gradients)
