"""What a model does in a prefill and in a decode step: flops, and bytes of weights that it reads.

The model is run on one virtual card at the workload, as ``devplan.profile.activations`` runs it,
and every op is looked at:

* products of matrices, convolutions and attention count their flops, from their shapes;
* an op that takes a parameter, or a view of one, reads it: all of it in a product, as many rows as
  come out in a look-up.  A product with no rows reads nothing.  So the experts of a mixture count
  as the model's code uses them: where the code runs one expert after another, those that were
  chosen (the run makes up a choice of distinct ones for every token, the same for all); where all
  experts lie in one tensor and are multiplied in one grouped product, as many as that product has
  rows, and at most all.  One token of a sequence uses exactly the number that the config asks for.

What is not counted: reading and writing activations, and ops that only look at them.  The cache is
counted by the planner (`Block.cache_bytes`).  Layers that were folded into another do as much as
that one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from devplan.core import DECODE, PREFILL, STEPS, Workload, named_line
from devplan.inputs import example_inputs, request_for
from devplan.models import BlockSite, Skeleton
from devplan.profile.activations import FEW_TOKENS, MOST_OPS
from devplan.profile.model import ReadWork, WorkProfile
from devplan.virtual import (
    BETWEEN,
    DECODE_STEPS,
    ModelCall,
    PipelineCall,
    TooManyOps,
    entered_part,
    layer_kinds,
    limited,
    maker_of,
    on_one_card,
    run_split,
    usual_call,
)


def measure_work(
    skeleton: Skeleton, sites: tuple[BlockSite, ...], workload: Workload
) -> WorkProfile:
    """Run the model at the workload and count.

    A run that fails is no error: the profile is then empty and says why.
    """
    if not skeleton.executable:
        return WorkProfile(notes=(_unknown("the model's own code is not available"),))
    prompt = max(workload.tokens - DECODE_STEPS - 1, 1)
    try:
        try:
            return _counted(skeleton, sites, workload, prompt, MOST_OPS)
        except TooManyOps as reason:
            few = min(FEW_TOKENS[-1], prompt)
            counted = _counted(skeleton, sites, workload, few, limited.MOST_OPS)
            note = f"the work of a prefill is {prompt / few:.1f} times that of {few} tokens"
            return counted.scaled(prompt / few, f"{note} ({reason})")
    except Exception as error:  # the model's own code, on inputs that we made: anything can happen
        return WorkProfile(notes=(_unknown(named_line(error)),))


def _unknown(reason: str) -> str:
    return (
        "flops and bytes read are those of dense layers of this many bytes, as no run of the model "
        f"could be counted ({reason})"
    )


def _counted(
    skeleton: Skeleton,
    sites: tuple[BlockSite, ...],
    workload: Workload,
    prompt: int,
    limit_ops: float,
) -> WorkProfile:
    model = skeleton.model
    inner = usual_call(model)
    if isinstance(inner, PipelineCall):
        raise NotImplementedError("the steps of a pipeline are not counted")
    if entered_part(model) is not None:
        raise NotImplementedError("the steps of a model without a forward are not counted")
    kwargs = example_inputs(model, skeleton.config, request_for(workload, prompt)).kwargs
    call = _CountingCall(inner=inner, counter=Counter(model, sites))
    record = run_split(
        on_one_card(model, skeleton.config, sites),
        call.takes(model, kwargs),
        described="",
        call=call,
        limit_ops=limit_ops,
    )
    if record.error is not None:
        raise RuntimeError(f"{record.error.type}: {record.error.message}")
    kinds = layer_kinds(sites, skeleton.config)
    order = [site.name for site in sites]
    steps = _unfolded(call.counter.found, [n for n in order if n in record.executed], kinds)
    return WorkProfile(steps=steps, parameter_bytes=call.counter.parameter_bytes)


def _unfolded(
    found: Mapping[tuple[str, str], ReadWork], executed: list[str], kinds: Mapping[str, Any]
) -> dict[str, dict[str, ReadWork]]:
    """Block -> step -> work; of a folded layer, that of the layer of its kind that ran last."""
    steps: dict[str, dict[str, ReadWork]] = defaultdict(dict)
    for step in STEPS:
        if (BETWEEN, step) in found:
            steps[BETWEEN][step] = found[BETWEEN, step]
        ran: dict[Any, tuple[str, ReadWork]] = {}
        for name in executed:
            kind = kinds.get(name)
            if (name, step) in found:
                steps[name][step] = found[name, step]
                if kind is not None:
                    ran[kind] = (name, found[name, step])
            elif kind in ran:
                steps[name][step] = ran[kind][1].of_block(ran[kind][0], name)
    return dict(steps)


# ---------------------------------------------------------------------------------- counting


@dataclass(frozen=True, kw_only=True)
class _CountingCall:
    """A call of the model with every op of it counted."""

    inner: ModelCall
    counter: Counter

    @property
    def name(self) -> str:
        return self.inner.name

    def takes(self, model: nn.Module, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.inner.takes(model, inputs)

    def run(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        with _Functions(self.counter), _Ops(self.counter):
            return self.inner.run(model, inputs)

    def phases(self) -> Iterator[str]:
        for phase in self.inner.phases():
            self.counter.begin(phase)
            yield phase


@dataclass(eq=False)
class Counter:
    """Work by block and step, as it is done."""

    model: nn.Module
    sites: tuple[BlockSite, ...]
    found: dict[tuple[str, str], ReadWork] = field(default_factory=dict)
    parameter_bytes: dict[str, int] = field(default_factory=dict)
    """Block -> bytes of its own parameters as they lie in the run."""
    step: str = PREFILL

    def __post_init__(self) -> None:
        self._owners: dict[int, str] = {}
        for site in self.sites:
            self.parameter_bytes[site.name] = 0
            for tensor in _tensors_of(site):
                storage = _storage(tensor)
                if storage not in self._owners:  # a tied tensor counts where it comes first
                    self._owners[storage] = site.name
                    self.parameter_bytes[site.name] += tensor.numel() * tensor.element_size()

    def begin(self, phase: str) -> None:
        """A forward of the whole model begins; of the decode steps, the last one counts."""
        self.step = DECODE if phase.startswith(DECODE) else PREFILL
        if self.step == DECODE:
            for key in [key for key in self.found if key[1] == DECODE]:
                del self.found[key]

    def add(self, result: Any, flops: int, read: tuple[tuple[torch.Tensor, int], ...]) -> None:
        """An op that gave `result`, with the tensors that it read and bytes of each."""
        tensor = result[0] if isinstance(result, (tuple, list)) and result else result
        block = maker_of(tensor) if isinstance(tensor, torch.Tensor) else None
        work = self.found.setdefault((block or BETWEEN, self.step), ReadWork())
        work.flops += flops
        for operand, num_bytes in read:
            owner = self._owners.get(_storage(operand))
            if owner is not None:
                work.read_bytes[owner] = work.read_bytes.get(owner, 0) + num_bytes


def _tensors_of(site: BlockSite) -> Iterator[torch.Tensor]:
    if site.module is not None:
        yield from site.module.parameters()
    elif site.tensor is not None:
        yield site.tensor


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


class _Functions(TorchFunctionMode):
    """Sees attention, which the virtual run makes one kernel of."""

    def __init__(self, counter: Counter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is nn.functional.scaled_dot_product_attention:
            with torch._C.DisableTorchFunction():
                self.counter.add(result, attention_flops(*args, **kwargs), ())
        return result


class _Ops(TorchDispatchMode):
    """Sees every other op."""

    def __init__(self, counter: Counter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        count = COUNTED_OPS.get(func.overloadpacket)
        if count is not None:
            with torch._C.DisableTorchFunction():
                self.counter.add(result, *count(args, kwargs, result))
        return result


# ---------------------------------------------------------------------------------------------- ops
#
# One function for each kind of op gives its flops, and the bytes that it reads of each operand.


aten = torch.ops.aten

Counted = tuple[int, tuple[tuple[torch.Tensor, int], ...]]
"""Flops, and what was read."""


def attention_flops(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **_) -> int:
    """Of scores and values; kernels skip the half that a causal mask hides."""
    *batch, heads, tokens, width = query.shape
    pairs = math.prod(batch) * heads * tokens * key.shape[-2]
    return 2 * pairs * (width + value.shape[-1]) // (2 if is_causal and tokens > 1 else 1)


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _product(left: int, right: int) -> Callable[..., Counted]:
    """A product of the operands at two positions, ``[.., m, k] x [.., k, n]``."""

    def count(args: tuple, kwargs: Mapping, result: torch.Tensor) -> Counted:
        a, b = args[left], args[right]
        if not result.numel():
            return 0, ()
        flops = 2 * a.numel() * b.shape[-1]
        return flops, ((a, _size(a)), (b, _size(b)))

    return count


def _grouped(args: tuple, kwargs: Mapping, result: torch.Tensor) -> Counted:
    """Groups of rows, each with its own matrix: ``[m, k] x [groups, k, n]``."""
    rows, weights = args[0], args[1]
    if not result.numel():
        return 0, ()
    used = min(rows.shape[0], weights.shape[0]) if weights.dim() == 3 else 1
    share = used / weights.shape[0] if weights.dim() == 3 else 1.0
    return 2 * rows.numel() * weights.shape[-1], ((weights, int(_size(weights) * share)),)


def _convolution(args: tuple, kwargs: Mapping, result: torch.Tensor) -> Counted:
    weight, transposed = args[1], bool(args[6]) if len(args) > 6 else False
    shape = args[0] if transposed else result
    positions = shape.shape[0] * math.prod(shape.shape[2:])
    return 2 * positions * weight.numel(), ((weight, _size(weight)),)


def _look_up(args: tuple, kwargs: Mapping, result: torch.Tensor) -> Counted:
    return 0, ((args[0], _size(result)),)


COUNTED_OPS: Mapping[Any, Callable[..., Counted]] = {
    aten.mm: _product(0, 1),
    aten.bmm: _product(0, 1),
    aten.addmm: _product(1, 2),
    aten.baddbmm: _product(1, 2),
    aten.convolution: _convolution,
    aten.embedding: _look_up,
    aten.index: _look_up,
    aten.index_select: _look_up,
    **({aten._grouped_mm: _grouped} if hasattr(aten, "_grouped_mm") else {}),
    **({aten._scaled_mm: _product(0, 1)} if hasattr(aten, "_scaled_mm") else {}),
}
"""Ops that do the arithmetic of a model or fetch its weights; others look at activations."""
