"""What a run shows of a model's blocks: their order, what entered them, what they gave and keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from devplan.virtual.folding import Outcome
from devplan.virtual.labels import maker_of
from devplan.virtual.observing import Observer


@dataclass(frozen=True, kw_only=True)
class TensorInput:
    """A tensor that entered a block as an argument."""

    maker: str | None
    """The block that made it; None: made between the blocks, or an input of the model."""
    tensor: torch.Tensor

    @property
    def bytes(self) -> int:
        return self.tensor.numel() * self.tensor.element_size()


@dataclass(kw_only=True)
class Trace(Observer):
    """Follows the blocks of a run.

    Tensors that entered blocks are kept, so that the peaks of a run that is traced tell nothing.
    """

    order: list[str] = field(default_factory=list)
    """Blocks in the order of their first call."""
    inputs: dict[str, tuple[TensorInput, ...]] = field(default_factory=dict)
    """Tensors that entered each block at its first call."""
    stands_for: Mapping[str, list[str]] = field(default_factory=dict)
    """Representative -> the layers that were folded into it."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """What the last real call of each block gave."""
    output: Any = None
    attributes: dict[str, torch.Tensor] = field(default_factory=dict)
    """Tensors that the run left in plain attributes of modules, by dotted name."""
    num_ops: int = 0
    num_block_ops: dict[str, int] = field(default_factory=dict)
    """Ops of the first real call of each block."""
    made_up: frozenset[str] = frozenset()
    """Names of the ops whose integer results were made up."""
    _begun: list[int] = field(default_factory=list)
    """Ops before each of the blocks whose code runs."""

    def enter(self, block: str, args: tuple, kwargs: Mapping[str, Any]) -> None:
        if block not in self.inputs:
            self.order.append(block)
            self.inputs[block] = tuple(_tensor_inputs(args, kwargs))

    def start(self, block: str) -> None:
        self._begun.append(self.run.execution.num_ops)

    def finish(self, block: str, result: Any, outcome: Outcome | None) -> None:
        self.num_block_ops.setdefault(block, self.run.execution.num_ops - self._begun.pop())
        if outcome is not None:
            self.outcomes[block] = outcome

    def abandon(self, block: str) -> None:
        self._begun.pop()

    def end(self, is_complete: bool) -> None:
        run = self.run
        self.num_ops = run.execution.num_ops
        self.made_up = frozenset(op for op, _ in run.recorder.made_up)
        self.stands_for = run.stands_for
        if is_complete:
            self.output = run.output
            self.attributes = dict(_made_attributes(run.split.model))


def _made_attributes(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors that a run left in plain attributes of modules: states of recurrent layers."""
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, torch.Tensor) and maker_of(value) is not None:
                yield f"{name}.{attribute}", value


def _tensor_inputs(args: tuple, kwargs: Mapping[str, Any]) -> Iterator[TensorInput]:
    seen: set[int] = set()
    for leaf in tree_leaves((args, dict(kwargs))):
        if isinstance(leaf, torch.Tensor) and id(leaf) not in seen:
            seen.add(id(leaf))
            yield TensorInput(maker=maker_of(leaf), tensor=leaf)
