"""The execution mode of a split run: every op judged, every result counted, every copy noted."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch.utils._pytree import tree_leaves

from devplan.virtual.dispatch_mode import USUAL, Execution
from devplan.virtual.labels import CPU, META, give_name, label_of, mark, name_of
from devplan.virtual.memory import MemoryMeter
from devplan.virtual.recording import Recorder
from devplan.virtual.rules.plan import has_no_rule, judge_function, judge_op
from devplan.virtual.rules.rule import Mismatch, Operand, Verdict
from devplan.virtual.synthetic import Choice

_COPY = torch.ops.aten.copy_.default
_ITEM = torch.ops.aten._local_scalar_dense.default
_NO_COPY = "Cannot copy out of meta tensor; no data!"
_NO_ITEM = "Tensor.item() cannot be called on meta tensors"


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
        self._asked: str | None = None
        """The weight on meta whose device the model's code asked for last."""
        self._origin: str | None = None
        """The weight that the result of the op that runs comes from, where that is on meta."""

    def result_device(
        self, func, args: tuple, kwargs: dict, tensors: list[torch.Tensor]
    ) -> torch.device | None:
        if func not in self._met:
            self._met.add(func)
            if has_no_rule(func):
                self.recorder.assumed.add(str(func))
        if func is _COPY:
            self._note_copy(*args[:2])
        elif func is _ITEM and label_of(args[0]) == META:
            self._lost(args[0], str(func), _NO_ITEM)
        self.recorder.used.update(filter(None, map(name_of, tensors)))
        verdict = judge_op(func, args, kwargs)
        self._origin = None
        if verdict.device == META:
            self._origin = next(filter(None, map(name_of, tensors)), None)
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
        if here == META != there:
            self._lost(source, str(_COPY), _NO_COPY)
        elif here != there != META:
            self.recorder.transfer(source, here, there, "copy")

    def _lost(self, tensor: torch.Tensor, op: str, message: str) -> None:
        """The model needs the values of a tensor on meta, which has none."""
        self.recorder.used.update(filter(None, (name_of(tensor),)))
        operand = Operand(
            argument="self",
            path="self",
            position=0,
            device=META,
            shape=tuple(tensor.shape),
            dtype=tensor.dtype,
            num_bytes=tensor.numel() * tensor.element_size(),
        )
        mismatch = Mismatch(
            message=message, rule="values on meta", operands=(operand,), target=CPU, moved=(0,)
        )
        self.recorder.mismatch(op, mismatch, [tensor])

    def attention(self, func, args: tuple, kwargs: dict) -> torch.Tensor:
        verdict = judge_function(func, args, kwargs)
        device = self._heard(verdict, "aten.scaled_dot_product_attention.default", args, kwargs)
        result = super().attention(func, args, kwargs)
        return mark(result, device, self.block)

    def _heard(self, verdict: Verdict, op: str, args: tuple, kwargs: dict) -> torch.device | None:
        """Record what the verdict says, and give the device of the result."""
        mismatch = verdict.mismatch
        if mismatch is None:
            return verdict.device
        there = [o.device for o in mismatch.operands if o.device != META]
        if len(there) < len(mismatch.operands):  # [meta] the weight would be brought to the others
            there = sorted(there, key=lambda device: device == CPU)
            message = f"Tensor on device {there[0]} is not on the expected device meta!"
            mismatch = replace(mismatch, message=message, target=there[0])
        self.recorder.mismatch(op, mismatch, tree_leaves((args, kwargs)))
        return mismatch.target

    def made(self, tensor: torch.Tensor) -> None:
        device = label_of(tensor)
        if device == META:
            if name_of(tensor) is None:
                give_name(tensor, self._origin or self._asked)
        elif device is not None:
            self.meter.count(tensor, device, self.place)

    def asked_on_meta(self, tensor: torch.Tensor) -> None:
        self._asked = name_of(tensor)

    def copy_to(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        source = label_of(tensor) or CPU
        if source == META:
            self._lost(tensor, "aten._to_copy.default", _NO_COPY)
        elif device != META:
            self.recorder.transfer(tensor, source, device)
        return super().copy_to(tensor, device)

    def note_made_up(self, op: str) -> None:
        self.recorder.made_up_value(op)

    @property
    def place(self) -> tuple[str, str]:
        """Block and phase that run now."""
        return self.block or "", self.recorder.phase
