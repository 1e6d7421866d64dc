"""The execution mode of a split run: every op judged, every result counted, every copy noted."""

from __future__ import annotations

import math

import torch
from torch.utils._pytree import tree_leaves

from devplan.virtual.execution import USUAL, Execution
from devplan.virtual.labels import CPU, META, label_of, mark
from devplan.virtual.made_up import Choice
from devplan.virtual.memory import MemoryMeter
from devplan.virtual.recording import Recorder
from devplan.virtual.rules import Verdict, has_no_rule, judge, judge_function

_COPY = torch.ops.aten.copy_.default


class SplitExecution(Execution):
    """Judges every op by the device rules, and measures what lives where."""

    def __init__(
        self,
        recorder: Recorder,
        meter: MemoryMeter,
        limit_ops: float = math.inf,
        choice: Choice = USUAL,
    ) -> None:
        super().__init__(limit_ops, choice)
        self.recorder = recorder
        self.meter = meter
        self._met: set = set()

    def result_device(
        self, func, args: tuple, kwargs: dict, tensors: list[torch.Tensor]
    ) -> torch.device | None:
        if func not in self._met:
            self._met.add(func)
            if has_no_rule(func):
                self.recorder.assumed.add(str(func))
        if func is _COPY:
            self._note_copy(*args[:2])
        verdict = judge(func, args, kwargs)
        if verdict.named:
            # [named] what reaches us here is the device of the stand-in, not the virtual one: a
            # factory is labelled by the answers above, `new_empty` lies where its tensor lies.
            return super().result_device(func, args, kwargs, tensors)
        if verdict.mismatch is None:
            return verdict.device
        return self._heard(verdict, str(func), args, kwargs)

    def _note_copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """``copy_``, also by the setter ``x[i] = y``: it takes operands of two devices."""
        here, there = label_of(source) or CPU, label_of(target) or CPU
        if here != there and META not in (here, there):
            self.recorder.transfer(source, here, there, "copy")

    def attention(self, func, args: tuple, kwargs: dict) -> torch.Tensor:
        verdict = judge_function(func, args, kwargs)
        device = self._heard(verdict, "aten.scaled_dot_product_attention.default", args, kwargs)
        result = super().attention(func, args, kwargs)
        return mark(result, device, self.block)

    def _heard(self, verdict: Verdict, op: str, args: tuple, kwargs: dict) -> torch.device | None:
        """Record what the verdict says, and give the device of the result."""
        if verdict.mismatch is not None:
            self.recorder.mismatch(op, verdict.mismatch, tree_leaves((args, kwargs)))
        return verdict.device

    def made(self, tensor: torch.Tensor) -> None:
        device = label_of(tensor)
        if device is not None:
            self.meter.count(tensor, device, self.place)

    def copy_to(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        source = label_of(tensor) or CPU
        if device != META:
            self.recorder.transfer(tensor, source, device)
        return super().copy_to(tensor, device)

    def note_made_up(self, op: str) -> None:
        self.recorder.made_up_value(op)

    @property
    def place(self) -> tuple[str, str]:
        """Block and phase that run now."""
        return self.block or "", self.recorder.phase
