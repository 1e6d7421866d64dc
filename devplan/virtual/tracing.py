"""One traced run of a model: which blocks ran, in which order, what entered them, what they keep.

The model is put on one virtual device for the time of a run and left as it was, also after an
exception.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections import defaultdict
from collections.abc import Callable, Container, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from devplan.models import BlockSite
from devplan.virtual import folding
from devplan.virtual.dispatch_mode import Execution
from devplan.virtual.folding import are_as_before, lists_among
from devplan.virtual.function_mode import Answers, default_on_cpu
from devplan.virtual.labels import maker_of, mark
from devplan.virtual.limited import MOST_OPS
from devplan.virtual.patches import Loan, VirtualCard, virtual_machine
from devplan.virtual.placing import wants_values, with_values

MAIN = torch.device("cuda", 0)


@dataclass(frozen=True, kw_only=True)
class TensorInput:
    """A tensor that entered a block as an argument."""

    maker: str | None
    """The block that made it; None: made between the blocks, or an input of the model."""
    tensor: torch.Tensor

    @property
    def bytes(self) -> int:
        return self.tensor.numel() * self.tensor.element_size()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Ops after which a run is stopped."""

    run_ops: float = MOST_OPS
    block_ops: Mapping[str, int] = field(default_factory=dict)
    """Block -> ops of one call; blocks that are not named may take what the run may."""


USUAL = Limits()


@dataclass(kw_only=True)
class Trace:
    """What one run showed."""

    order: list[str] = field(default_factory=list)
    """Blocks in the order of their first call."""
    inputs: dict[str, tuple[TensorInput, ...]] = field(default_factory=dict)
    """Tensors that entered each block at its first call."""
    stands_for: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Representative -> the layers that were folded into it."""
    outcomes: dict[str, folding.Outcome] = field(default_factory=dict)
    """What the last real call of each block gave."""
    output: Any = None
    attributes: dict[str, torch.Tensor] = field(default_factory=dict)
    """Tensors that the run left in plain attributes of modules, by dotted name."""
    num_ops: int = 0
    num_block_ops: dict[str, int] = field(default_factory=dict)
    """Ops of the first real call of each block."""
    made_up: frozenset[str] = frozenset()


def run_traced(
    model: nn.Module,
    sites: tuple[BlockSite, ...],
    inputs: Mapping[str, Any],
    *,
    kinds: Mapping[str, Hashable] = MappingProxyType({}),
    preset: Mapping[str, folding.Outcome] = MappingProxyType({}),
    limits: Limits = USUAL,
    entry: Callable[..., Any] | None = None,
    trace: Trace | None = None,
) -> Trace:
    """Run ``model(**inputs)`` virtually and say what happened.

    Parameters
    ----------
    model
        On the meta device; left as it was.
    sites
        Its blocks.
    inputs
        Keyword arguments of ``forward``; integer tensors real, float tensors meta.
    kinds
        Layer -> what it has in common with the layers that may be folded into it
        (`folding.layer_kinds`); none: every layer is run.
    preset
        Blocks that are not run, with what they give.
    limits
        Ops that the run, and a call of each block, may take.
    entry
        What is called with the inputs instead of the model: a part of it, or its ``generate``.
    trace
        Where it is noted; after an exception it holds what ran before.

    Raises
    ------
    TooManyOps
        When a limit is passed.
    """
    trace = trace or Trace()
    execution = Execution(limits.run_ops)
    with contextlib.ExitStack() as undo:
        undo.callback(lambda: setattr(trace, "num_ops", execution.num_ops))
        undo.enter_context(virtual_machine(model, (VirtualCard(),)))
        loan = undo.enter_context(Loan())
        undo.enter_context(default_on_cpu())
        borrower = _Borrower(loan, MAIN)
        borrower.borrow_outside(model, {site.module for site in sites if site.stack is not None})
        tracer = _Tracer(trace, execution, borrower, kinds, preset, limits)
        for site in sites:
            if site.module is not None:
                tracer.wrap(site)
        placed_inputs = {
            name: mark(value, MAIN, None) if isinstance(value, torch.Tensor) else value
            for name, value in inputs.items()
        }
        with Answers(execution, home=MAIN), execution:
            trace.output = execution.limit.run(entry or model, **placed_inputs)
        trace.attributes = _made_attributes(model, loan)
    trace.made_up = frozenset(execution.made_up)
    return trace


class _Borrower:
    """Keeps modules for the time of a run and puts them on the virtual device.

    The modules inside a layer are borrowed when the layer first runs: of a hundred thousand, most
    belong to layers that are folded.
    """

    def __init__(self, loan: Loan, device: torch.device) -> None:
        self.loan = loan
        self.device = device
        self.placed: set[nn.Module] = set()

    def borrow_outside(self, model: nn.Module, layers: Container[nn.Module]) -> None:
        """Everything but the insides of `layers`."""
        pending = [model]
        while pending:
            module = pending.pop()
            self.borrow(module)
            if module not in layers:
                pending.extend(child for child in module._modules.values() if child is not None)

    def borrow_inside(self, module: nn.Module) -> None:
        """A module and all that is in it."""
        for inner in module.modules():
            self.borrow(inner)

    def borrow(self, module: nn.Module) -> None:
        """One module; small integer buffers get values."""
        if module in self.placed:
            return
        self.placed.add(module)
        self.loan.keep(module)
        buffers = module._buffers
        for name, buffer in buffers.items():
            if buffer is not None and wants_values(buffer):
                buffers[name] = with_values(buffer)
        for tensor in (*module._parameters.values(), *buffers.values()):
            if tensor is not None:
                mark(tensor, self.device, None)


def _made_attributes(model: nn.Module, loan: Loan) -> dict[str, torch.Tensor]:
    """Tensors that a run left in plain attributes of modules: states of recurrent layers."""
    made = {
        (module, attribute): value
        for module in loan.kept
        for attribute, value in vars(module).items()
        if isinstance(value, torch.Tensor) and maker_of(value) is not None
    }
    owners = {module for module, _ in made}
    names = {m: name for name, m in model.named_modules() if m in owners} if owners else {}
    return {f"{names[module]}.{attribute}": value for (module, attribute), value in made.items()}


class _Tracer:
    """Wraps the ``forward`` of blocks, so that each call is noted; `Loan` unwraps them."""

    def __init__(
        self,
        trace: Trace,
        execution: Execution,
        borrower: _Borrower,
        kinds: Mapping[str, Hashable],
        preset: Mapping[str, folding.Outcome],
        limits: Limits,
    ) -> None:
        self.trace = trace
        self.execution = execution
        self.borrower = borrower
        self.kinds = kinds
        self.preset = preset
        self.limits = limits
        self.known: dict[Hashable, folding.Outcome] = {}
        """Kind of layer, and call -> what the representative gave."""

    def wrap(self, site: BlockSite) -> None:
        original = site.module.forward

        @functools.wraps(original)
        def forward(*args, **kwargs):
            return self._call(site, original, args, kwargs)

        site.module.forward = forward

    def _call(self, site: BlockSite, original: Callable, args: tuple, kwargs: dict) -> Any:
        trace, name = self.trace, site.name
        if name not in trace.inputs:
            trace.order.append(name)
            trace.inputs[name] = tuple(_tensor_inputs(args, kwargs))
        if (given := self.preset.get(name)) is not None:
            return folding.repeat(given, args, kwargs, name)
        kind = self.kinds.get(name)
        key = kind and (kind, folding.call_signature(args, kwargs))
        if (outcome := self.known.get(key)) is not None:
            folded = trace.stands_for[outcome.maker]
            if name not in folded:  # a layer may be called more than once
                folded.append(name)
            return folding.repeat(outcome, args, kwargs, name)
        self.borrower.borrow_inside(site.module)
        lists = lists_among(args, kwargs)
        result = self._run(name, original, args, kwargs)
        outcome = folding.remember(result, args, kwargs, name) if are_as_before(lists) else None
        if outcome is not None:
            trace.outcomes[name] = outcome
            if key is not None:
                self.known[key] = outcome
        return result

    def _run(self, name: str, original: Callable, args: tuple, kwargs: dict) -> Any:
        """The block's own code, its ops counted and limited."""
        execution = self.execution
        outer = execution.block, execution.limit_ops
        before = execution.num_ops
        allowed = before + self.limits.block_ops.get(name, math.inf)
        execution.block, execution.limit_ops = name, min(allowed, execution.limit_ops)
        try:
            result = original(*args, **kwargs)
        finally:
            execution.block, execution.limit_ops = outer
        self.trace.num_block_ops.setdefault(name, execution.num_ops - before)
        return result


def _tensor_inputs(args: tuple, kwargs: Mapping[str, Any]) -> Iterator[TensorInput]:
    seen: set[int] = set()
    for leaf in tree_leaves((args, dict(kwargs))):
        if isinstance(leaf, torch.Tensor) and id(leaf) not in seen:
            seen.add(id(leaf))
            yield TensorInput(maker=maker_of(leaf), tensor=leaf)
