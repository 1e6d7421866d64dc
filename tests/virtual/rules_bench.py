"""Labelled tensors, and a mode that asks the rules about every op which the dispatcher passes.

All tensors are small real CPU tensors, so every op runs; where they are said to lie is the label
alone.  A mismatch is noted and the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from devplan.virtual.labels import mark
from devplan.virtual.rules.plan import judge_op
from devplan.virtual.rules.rule import Mismatch, Verdict


def at(device: str | None, tensor: torch.Tensor) -> torch.Tensor:
    """A copy of the tensor that is said to lie on `device`; None: no label, plain CPU."""
    copy = tensor.detach().clone()
    return mark(copy, None if device is None else torch.device(device), None)


@dataclass
class Judged(TorchDispatchMode):
    """Every verdict in order, with the op."""

    verdicts: list[tuple[object, Verdict]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        verdict = judge_op(func, args, kwargs or {})
        self.verdicts.append((func, verdict))
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(item, torch.Tensor):
                mark(item, verdict.device, None)
        return result

    @property
    def mismatches(self) -> list[Mismatch]:
        return [verdict.mismatch for _, verdict in self.verdicts if verdict.mismatch]


def judged(run: Callable[[], object]) -> Judged:
    """Run a piece of code with every op judged."""
    with torch.no_grad(), Judged() as mode:
        mode.result = run()
    return mode
