"""One traced run of a model: which blocks ran, in which order, what entered them, what they keep.

The model is put on one virtual device for the time of a run and left as it was, also after an
exception.
"""

from __future__ import annotations

import contextlib
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from devplan.blocks import BlockSite
from devplan.virtual import folding
from devplan.virtual.answers import Answers
from devplan.virtual.cuda import VirtualCard, answering
from devplan.virtual.execution import Execution
from devplan.virtual.labels import CONCRETE_LIMIT, maker_of, mark, unmark

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
    config: Any = None,
    fold: bool = True,
    preset: Mapping[str, folding.Outcome] | None = None,
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
    config
        The model's configuration, for folding.
    fold
        Whether identical layers of a stack are run once.
    preset
        Blocks that are not run, with what they give.
    """
    trace = Trace()
    execution = Execution()
    with contextlib.ExitStack() as undo:
        undo.enter_context(restored(model))
        undo.enter_context(torch.no_grad())
        undo.enter_context(answering((VirtualCard(),)))
        _place(model, MAIN)
        _wrap_blocks(sites, trace, execution, signatures(sites, config) if fold else {}, preset)
        placed_inputs = {
            name: mark(value, MAIN, None) if isinstance(value, torch.Tensor) else value
            for name, value in inputs.items()
        }
        with Answers(execution), execution:
            trace.output = model(**placed_inputs)
        trace.attributes = _made_attributes(sites)
    trace.num_ops = execution.num_ops
    trace.made_up = frozenset(execution.made_up)
    return trace


@contextlib.contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Give every module its attributes, parameters and buffers back, whatever happens inside.

    A run labels tensors, wraps ``forward`` methods and swaps buffers; a model's own code may
    re-register buffers (dynamic rotary embeddings) or keep states in attributes (Griffin).
    """
    kept = [
        (module, dict(vars(module)), dict(module._parameters), dict(module._buffers))
        for module in model.modules()
    ]
    try:
        yield
    finally:
        for module, attributes, parameters, buffers in kept:
            vars(module).clear()
            vars(module).update(attributes)
            _refill(module._parameters, parameters)
            _refill(module._buffers, buffers)
            for tensor in (*parameters.values(), *buffers.values()):
                if tensor is not None:
                    unmark(tensor)


def _refill(mapping: dict, content: dict) -> None:
    mapping.clear()
    mapping.update(content)


def _place(model: nn.Module, device: torch.device) -> None:
    """Label every tensor of the model; give integer buffers on meta real, zero values."""
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and _wants_values(buffer):
                module._buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype)
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                mark(tensor, device, None)


def _wants_values(buffer: torch.Tensor) -> bool:
    is_number = buffer.is_floating_point() or buffer.is_complex()
    return buffer.device.type == "meta" and not is_number and buffer.numel() <= CONCRETE_LIMIT


def _made_attributes(sites: tuple[BlockSite, ...]) -> dict[str, torch.Tensor]:
    """Tensors that a run left in plain attributes of modules: states of recurrent layers."""
    made = {}
    for site in sites:
        for name, module in site.module.named_modules() if site.module is not None else ():
            for attribute, value in vars(module).items():
                if isinstance(value, torch.Tensor) and maker_of(value) is not None:
                    made[".".join(filter(None, (site.name, name, attribute)))] = value
    return made


def signatures(sites: tuple[BlockSite, ...], config: Any) -> dict[str, Any]:
    """Layer name -> signature, for the layers of every stack; unequal stacks never agree."""
    stacks: dict[str, list[BlockSite]] = defaultdict(list)
    for site in sites:
        if site.stack is not None and site.module is not None:
            stacks[site.stack].append(site)
    found: dict[str, Any] = {}
    for stack, layers in stacks.items():
        signatures = folding.layer_signatures([layer.module for layer in layers], config)
        found.update(
            (layer.name, (stack, signature))
            for layer, signature in zip(layers, signatures, strict=True)
        )
    return found


def _wrap_blocks(sites, trace: Trace, execution: Execution, signatures, preset) -> None:
    """Wrap the ``forward`` of every block; `restored` unwraps them."""
    known: dict[Any, folding.Outcome] = {}
    for site in sites:
        if site.module is not None:
            signature = signatures.get(site.name)
            given = (preset or {}).get(site.name)
            _wrap(site, trace, execution, signature, known, given)


def _wrap(site: BlockSite, trace: Trace, execution: Execution, signature, known, given) -> None:
    original = site.module.forward

    @functools.wraps(original)
    def forward(*args, **kwargs):
        if site.name not in trace.inputs:
            trace.order.append(site.name)
            trace.inputs[site.name] = tuple(_tensor_inputs(args, kwargs))
        if given is not None:
            return folding.repeat(given, args, kwargs, site.name)
        key = None
        if signature is not None:
            key = (signature, folding.call_signature(args, kwargs))
            if (outcome := known.get(key)) is not None:
                trace.stands_for[outcome.maker].append(site.name)
                return folding.repeat(outcome, args, kwargs, site.name)
        outer, execution.block = execution.block, site.name
        ops_before = execution.num_ops
        try:
            result = original(*args, **kwargs)
        finally:
            execution.block = outer
        trace.num_block_ops.setdefault(site.name, execution.num_ops - ops_before)
        outcome = folding.remember(result, args, kwargs, site.name)
        if outcome is not None:
            trace.outcomes[site.name] = outcome
            if key is not None:
                known[key] = outcome
        return result

    site.module.forward = forward


def _tensor_inputs(args: tuple, kwargs: Mapping[str, Any]) -> Iterator[TensorInput]:
    seen: set[int] = set()
    for leaf in tree_leaves((args, dict(kwargs))):
        if isinstance(leaf, torch.Tensor) and id(leaf) not in seen:
            seen.add(id(leaf))
            yield TensorInput(maker=maker_of(leaf), tensor=leaf)
