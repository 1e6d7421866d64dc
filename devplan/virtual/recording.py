"""What a run records for findings: mismatches, transfers and made-up values, each with a count.

An event is the same as an earlier one when it happened at the same line of code, in the same
module and phase, between the same devices; the count then rises.  When a layer was folded into
another, the events of that other layer are counted for it too.
"""

from __future__ import annotations

import copy
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from devplan.core import (
    BlockInput,
    MadeUpValue,
    MismatchEvent,
    OperandFact,
    TransferEvent,
    is_inside,
)
from devplan.virtual import source_lines
from devplan.virtual.labels import META, attribute_path, label_of, maker_of, name_of, sources_of
from devplan.virtual.memory import given_bytes
from devplan.virtual.observing import Observer
from devplan.virtual.rules.rule import Mismatch, Operand

if TYPE_CHECKING:
    from devplan.virtual.folding import Outcome
    from devplan.virtual.run import Run


Event = tuple[str, Any]
"""Kind and key of an event."""


class Recorder(Observer):
    """Collects the events of one run.

    Attributes
    ----------
    phase : str
        What runs now: ``prefill``, ``decode 1``, ...
    """

    def __init__(self, model: nn.Module) -> None:
        self.phase = ""
        self._names = {id(module): name for name, module in model.named_modules()}
        self._tensor_names = {
            id(tensor): name
            for named in (model.named_parameters, model.named_buffers)
            for name, tensor in named(remove_duplicate=False)
        }
        self._clear()

    def _clear(self) -> None:
        self.mismatches: dict[Any, MismatchEvent] = {}
        self.transfers: dict[Any, TransferEvent] = {}
        self.made_up: Counter[tuple[str, Any]] = Counter()
        self.entering: Counter[BlockInput] = Counter()
        self.assumed: set[str] = set()
        self.used: set[str] = set()
        """Weights and buffers that ops took."""
        self._latest: dict[torch.device, str] = {}
        """Device -> the block that last gave a result there."""
        self._log: list[Event] = []
        """Every event, in order; what a folded layer repeats is a slice of it."""
        self._begun: list[int] = []
        """Places in the log at which the blocks began whose code runs."""

    def anew(self) -> Recorder:
        """One that knows the same names, and has recorded nothing."""
        other = copy.copy(self)
        other.phase = ""
        other._clear()
        return other

    # ------------------------------------------------------------------------------ recording

    def mismatch(self, op: str, mismatch: Mismatch, leaves: list[Any]) -> None:
        """An op that PyTorch would have refused; `leaves` are its flattened arguments."""
        stack = source_lines.current_stack()
        source = stack[-1] if stack else None
        module = self._module_name()
        key = (op, mismatch.message, str(source))
        if key not in self.mismatches:
            self.mismatches[key] = MismatchEvent(
                op=op,
                message=mismatch.message,
                rule=mismatch.rule,
                module=module,
                source=source,
                stack=stack,
                operands=tuple(self._operand(operand, leaves) for operand in mismatch.operands),
                phase=self.phase,
                count=0,
            )
        self._count("mismatches", key)

    def transfer(
        self, tensor: torch.Tensor, source: torch.device, target: torch.device, by: str = "to"
    ) -> None:
        """A copy of a tensor from one device to another; `by` what the model's code did it."""
        asker = _asker(tensor, by)
        module = (
            self._names.get(id(asker.module), "")
            if asker.module is not None
            else self._module_name()
        )
        num_bytes = tensor.numel() * tensor.element_size()
        line = None if asker.kind != by else source_lines.current_source()
        kind = TransferEvent(
            source_device=str(source),
            target_device=str(target),
            asked_by=asker.kind,
            module=module,
            argument=asker.argument,
            maker=maker_of(tensor),
            source=line,
            phase=self.phase,
            num_bytes=num_bytes,
            count=0,
        )
        self.transfers.setdefault(kind, kind)
        self._count("transfers", kind)

    def made_up_value(self, op: str) -> None:
        """An integer that had no value."""
        self._count_made_up((op, source_lines.current_source()))

    def _count(self, kind: str, key: Any) -> None:
        events = getattr(self, kind)
        events[key] = replace(events[key], count=events[key].count + 1)
        self._log.append((kind, key))

    def _count_made_up(self, key: Any) -> None:
        self.made_up[key] += 1
        self._log.append(("made_up", key))

    # -------------------------------------------------------------------------------- folding

    def begin(self, run: Run) -> None:
        super().begin(run)
        self.phase = run.phase

    def turn(self, phase: str) -> None:
        self.phase = phase

    def enter(self, block: str, args: tuple, kwargs: Mapping[str, Any]) -> None:
        if self.run.is_in_first_phase:
            self._took(block, (args, kwargs))

    def start(self, block: str) -> None:
        self._begun.append(len(self._log))

    def finish(self, block: str, result: Any, outcome: Outcome | None) -> list[Event]:
        self._gave(block, result)
        return self._log[self._begun.pop() :]

    def abandon(self, block: str) -> None:
        self._begun.pop()

    def repeat(self, block: str, ran: str, noted: list[Event]) -> None:
        for kind, key in noted:
            if kind == "mismatches":  # one place in the code: the count says how often
                self._count(kind, key)
            elif kind == "made_up":
                self._count_made_up(key)
            else:
                self._repeat_transfer(key, ran, block)

    def repeated(self, block: str, result: Any, noted: list[Event]) -> None:
        self._gave(block, result)

    def _repeat_transfer(self, kind: TransferEvent, ran: str, stands_for: str) -> None:
        if is_inside(kind.module, ran):
            module = stands_for + kind.module[len(ran) :]
            maker = stands_for if kind.maker == ran else kind.maker
            kind = replace(kind, module=module, maker=maker)
            self.transfers.setdefault(kind, kind)
        self._count("transfers", kind)

    # -------------------------------------------------------------------------------- results

    def made_up_values(self) -> tuple[MadeUpValue, ...]:
        return tuple(
            MadeUpValue(op=op, source=source, count=count)
            for (op, source), count in self.made_up.items()
        )

    def block_inputs(self) -> tuple[BlockInput, ...]:
        return tuple(replace(item, count=count) for item, count in self.entering.items())

    def _module_name(self) -> str:
        module = source_lines.current_module()
        return self._names.get(id(module), "") if module is not None else ""

    def _name_of(self, tensor: torch.Tensor) -> str | None:
        """Name of a parameter or buffer, or path of a plain attribute of a module.

        Of a tensor on meta it is the weight that its values would have come from.
        """
        known = self._tensor_names.get(id(tensor))
        if known is None and (isinstance(tensor, nn.Parameter) or label_of(tensor) == META):
            known = name_of(tensor)
        return known or attribute_path(tensor, source_lines.modules_on_stack(), self._names)

    def _took(self, block: str, arguments: Any) -> None:
        """The tensors among the arguments of a block are where they came from."""
        for tensor in tree_leaves(arguments):
            device = label_of(tensor) if isinstance(tensor, torch.Tensor) else None
            if device is not None:
                size = tensor.numel() * tensor.element_size()
                maker = maker_of(tensor)
                item = BlockInput(block=block, maker=maker, device=str(device), num_bytes=size)
                self.entering[item] += 1

    def _gave(self, block: str, result: Any) -> None:
        """A block gave results of its own on their devices."""
        self._latest.update(dict.fromkeys(given_bytes(result, block), block))

    def _makers(self, tensor: torch.Tensor, device: torch.device) -> tuple[str, ...]:
        """What no block made (positions, anchors) follows the result that came last."""
        made = sources_of(tensor) or {self._latest.get(device)} - {None}
        return tuple(sorted(made))

    def _operand(self, operand: Operand, leaves: list[Any]) -> OperandFact:
        return OperandFact(
            argument=operand.path,
            device=str(operand.device),
            shape=tuple(operand.shape),
            dtype=str(operand.dtype).removeprefix("torch."),
            num_bytes=operand.num_bytes,
            name=self._name_of(leaves[operand.position]),
            makers=self._makers(leaves[operand.position], operand.device),
        )


@dataclass(frozen=True, kw_only=True)
class _Asker:
    """Who asked for a transfer."""

    kind: str
    module: nn.Module | None = None
    argument: str | None = None


def _asker(tensor: torch.Tensor, by: str) -> _Asker:
    """Read off the stack whether a hook of accelerate's or the model's code moves the tensor."""
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if source_lines.is_hook_code(frame) and "module" in frame.f_locals:
            return _hook_asker(frame.f_locals, code.co_name, tensor)
        if source_lines.is_model_code(frame):
            return _Asker(kind=by)
        frame = frame.f_back
    return _Asker(kind=by)


def _hook_asker(local: Mapping[str, Any], function: str, tensor: torch.Tensor) -> _Asker:
    module = local["module"]
    if function == "post_forward":
        return _Asker(kind="io", module=module)
    for name, value in _arguments(local):
        if any(leaf is tensor for leaf in tree_leaves(value)):
            return _Asker(kind="hook", module=module, argument=name)
    return _Asker(kind="offload" if "value" in local else "hook", module=module)


def _arguments(local: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    kwargs = local.get("kwargs")
    yield from (kwargs or {}).items()
    for position, value in enumerate(local.get("args") or ()):
        yield str(position), value
