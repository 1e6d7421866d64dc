"""Every aten op of a virtual run: computed for real, or only in shape.

An op whose tensor operands are all concrete runs for real on the CPU, unless its result would be
larger than `CONCRETE_LIMIT`; any other op runs on the meta device.  Integers that would have to
come out of abstract floats are made up (`devplan.virtual.synthetic`).

Exceptions: a concrete tensor that is written to with abstract values keeps the values that it
has; where it holds integers, that too counts as made up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from devplan.virtual.labels import (
    CPU,
    META,
    bare_copy,
    give_name,
    is_abstract,
    joint_sources,
    label_of,
    maker_of,
    mark,
    name_of,
    sources_of,
)
from devplan.virtual.limited import OpsLimit
from devplan.virtual.memory import whole
from devplan.virtual.operands import (
    all_on_meta,
    attended,
    grows,
    is_large,
    may_grow,
    on_meta,
    selected_positions,
    tensor_operands,
)
from devplan.virtual.shapes import Guess, KnownShapes
from devplan.virtual.synthetic import Choice, given_by, with_least

aten = torch.ops.aten

USUAL = Choice()

_INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._unsafe_index, aten._index_put_impl_}
_VALUE_SIZED = {aten.nonzero, aten.masked_select}
"""Ops whose result has as many elements as the operand has true values."""
_FILLING = {
    *(aten.ones_like, aten.zeros_like, aten.full_like),
    *(aten.new_ones, aten.new_zeros, aten.new_full),
}
"""Ops that take only shape and dtype from their operand: abstract or not, the result is known."""
_UNINITIALIZED = {aten.empty, aten.empty_strided}
_CUDA_ONLY_INTEGERS = {aten.histc}
"""Ops that CUDA computes on integers and the CPU does not: they run on floats here."""
_BFLOAT16_SHAPES = {aten._grouped_mm} if hasattr(aten, "_grouped_mm") else set()
"""Ops whose shape function insists on bfloat16 while the CUDA kernel takes any float: see
``_meta_grouped_mm_common`` in torch/_meta_registrations.py and ``_grouped_mm_cuda`` in ATen."""


class Execution(TorchDispatchMode):
    """Runs ops, labels their results with device and maker, and counts them.

    Attributes
    ----------
    block : str | None
        The block of the model that is running now; set by the tracer.
    num_ops : int
        Ops seen so far.
    limit_ops : float
        Value of `num_ops` at which the run is stopped with `TooManyOps`.
    made_up : set[str]
        Names of the ops whose integer results were made up.
    choice : Choice
        The values that are made up.
    """

    def __init__(self, limit_ops: float = math.inf, choice: Choice = USUAL) -> None:
        super().__init__()
        self.choice = choice
        self.block: str | None = None
        self.num_ops = 0
        self.limit_ops = limit_ops
        self.limit = OpsLimit()
        self.made_up: set[str] = set()
        self.known = KnownShapes()
        self.guess = Guess()
        self.is_backward = False
        """Whether autograd's engine runs; set by `Answers`."""
        self.caller: tuple = ()
        """Arguments of the function of torch that is running; set by `Answers`."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if self.is_backward:  # [autograd] calls it with the modes of functions on
            with torch._C.DisableTorchFunction():
                return self._dispatched(func, args, kwargs)
        return self._dispatched(func, args, kwargs)

    def _dispatched(self, func, args, kwargs):
        self.num_ops += 1
        if self.num_ops > self.limit_ops:
            self.limit.refuse(self.block)
        kwargs = kwargs or {}
        self.given = given_by(func, args, between_blocks=self.block is None)
        tensors = tensor_operands(args, kwargs)
        self.sources = joint_sources(tensors) if self.block is None else None
        device = self.result_device(func, args, kwargs, tensors)
        if device is None and not tensors:
            device = self._device_of_caller()
        if any(map(is_abstract, tensors)):
            return self._run_abstract(func, args, kwargs, tensors, device)
        if may_grow(func, args, kwargs, tensors) and grows(func, args, kwargs):
            args, kwargs = on_meta(args), on_meta(kwargs)
            return self._finish(func(*args, **kwargs), device, func, settle=True)
        if not tensors and kwargs.get("device") == META:
            kwargs = {**kwargs, "device": self._home(func, args, kwargs)}
        if func.overloadpacket is aten.all and hasattr(args[0], "_devplan_made_up"):
            args, kwargs = on_meta(args), on_meta(kwargs)  # [made up] chosen as for abstract ones
            return self._finish(func(*args, **kwargs), device, func, settle=True)
        if func.overloadpacket in _CUDA_ONLY_INTEGERS and not args[0].is_floating_point():
            args = (args[0].float(), *args[1:])
        return self._finish(self._computed(func, args, kwargs), device, func, settle=False)

    def _run_abstract(
        self, func, args: tuple, kwargs: dict, tensors: list[torch.Tensor], device
    ) -> Any:
        packet = func.overloadpacket
        if packet is aten._local_scalar_dense:
            self.note_made_up("aten._local_scalar_dense.default")
            return self.choice.number(tensors[0])
        if packet in _VALUE_SIZED:
            selection = self._made_up_selection(packet, args[0])
            return self._finish(selection, device, func, settle=False)
        if packet in _FILLING and not (kwargs.get("dtype") or args[0].dtype).is_floating_point:
            args, kwargs = (_without_values(args[0]), *args[1:]), {**kwargs, "device": CPU}
            known = not is_large(shaped := func(*on_meta(args), **{**kwargs, "device": META}))
            result = func(*args, **kwargs) if known else shaped
            return self._finish(result, device, func, settle=False)
        mutates = func._schema.is_mutable
        target = args[0] if mutates and args and not _is_abstract_tensor(args[0]) else None
        if packet in _INDEXED:
            args = (
                args[0],
                [part for item in args[1] for part in selected_positions(item)],
                *args[2:],
            )
        if packet in _INDEXED or not all_on_meta(args, kwargs, tensors):
            args, kwargs = on_meta(args), on_meta(kwargs)
        result = self._shaped(func, args, kwargs)
        if isinstance(target, torch.Tensor) and isinstance(result, torch.Tensor):
            return self._finish(self._kept(target, func), device, func, settle=False)
        return with_least(func, args, self._finish(result, device, func, settle=not mutates))

    # ------------------------------------------------------------ what a split run overrides

    def result_device(
        self, func, args: tuple, kwargs: dict, tensors: list[torch.Tensor]
    ) -> torch.device | None:
        """Where the result of an op lies; on a single device, where its first operand lies."""
        return next((label for item in tensors if (label := label_of(item))), None)

    def made(self, tensor: torch.Tensor) -> None:
        """Called for every result of an op."""

    def asked_on_meta(self, tensor: torch.Tensor) -> None:
        """The model's code asked where a tensor lies, and heard that it is on meta."""

    def note_made_up(self, op: str) -> None:
        """An integer result of `op` had no value and was made up."""
        self.made_up.add(op)

    def copy_to(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        """A copy of the tensor on another virtual device."""
        return with_gradients(
            lambda: self._copied(tensor, device),
            (tensor,),
            lambda gradient, operand: self.copy_to(gradient, label_of(operand) or CPU),
        )

    def _copied(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        copy = mark(bare_copy(tensor), device, maker_of(tensor), sources_of(tensor))
        # [vmap] ops are seen with the tensor below: its label is the one that is read
        mark(whole(copy), device, maker_of(tensor), sources_of(tensor))
        give_name(copy, name_of(tensor))
        self.made(copy)
        return copy

    def attention(self, func, args: tuple, kwargs: dict) -> torch.Tensor:
        """Attention as the one kernel that a GPU runs: no ``tokens x tokens`` matrix.

        Concrete operands are computed for real.  The result is laid out as flash attention
        leaves it, ``[batch, tokens, heads, width]`` in memory.
        """
        query, value, leading = attended(*args, **kwargs)
        abstract = next(filter(_is_abstract_under_modes, (query, value)), None)
        if abstract is None:
            return func(*args, **kwargs)
        *batch, heads = leading
        size = (*batch, query.shape[-2], heads, value.shape[-1])
        return with_gradients(
            lambda: abstract.new_empty(size).transpose(-3, -2),
            (*args, *kwargs.values()),
            lambda gradient, operand: gradient.new_empty(operand.shape, dtype=operand.dtype),
        )

    def _computed(self, func, args: tuple, kwargs: dict) -> Any:
        """An op on concrete operands; only its shape where the CPU has no such op."""
        try:
            return func(*args, **kwargs)
        except NotImplementedError as error:
            return self.guess(func, error, on_meta(args), on_meta(kwargs))

    def _shaped(self, func, args: tuple, kwargs: dict) -> Any:
        if func.overloadpacket not in _BFLOAT16_SHAPES or args[0].dtype == torch.bfloat16:
            return self.known.call(func, args, kwargs, self.guess)
        left, right, *rest = args
        result = func(left.bfloat16(), right.bfloat16(), *rest, **kwargs)
        return result.to(kwargs.get("out_dtype") or left.dtype)

    def _device_of_caller(self) -> torch.device | None:
        """Where the first operand of the function lies whose own code is running.

        That code makes tensors where its operands are (``one_hot`` its zeros, ``embedding_bag`` its
        offsets), but asks for the real device of the stand-ins.
        """
        return next(
            (label for item in tensor_operands(self.caller, {}) if (label := label_of(item))), None
        )

    def _home(self, func, args: tuple, kwargs: dict) -> torch.device:
        """Where a factory that was asked for meta makes its tensor.

        PyTorch's own composite ops ask so when their operands are abstract (the causal mask of
        scaled dot product attention: ``ones(tokens, tokens).tril()``); integers have values yet.
        """
        made = func(*args, **kwargs)
        known = isinstance(made, torch.Tensor) and not (_is_float(made) or is_large(made))
        return CPU if known and func.overloadpacket not in _UNINITIALIZED else META

    # ------------------------------------------------------------------------------ results

    def _finish(self, result: Any, device: torch.device | None, func, settle: bool) -> Any:
        if isinstance(result, torch.Tensor):
            return self._settle(result, device, func, settle)
        if isinstance(result, (list, tuple)):
            done = [
                self._settle(item, device, func, settle) if isinstance(item, torch.Tensor) else item
                for item in result
            ]
            return type(result)(done)
        return result

    def _settle(self, tensor: torch.Tensor, device, func, settle: bool) -> torch.Tensor:
        """Make up small integers that have no value, and label."""
        if settle and not (_is_float(tensor) or is_large(tensor) or func.is_view):
            self.note_made_up(str(func))
            tensor = self.choice.fill(tensor, func, self.given)
            tensor._devplan_made_up = True
        mark(tensor, device, self.block, self.sources)
        self.made(tensor)
        return tensor

    def _kept(self, tensor: torch.Tensor, func) -> torch.Tensor:
        """A concrete tensor into which abstract values were to be written."""
        if not _is_float(tensor):
            self.note_made_up(str(func))
        return tensor

    def _made_up_selection(self, packet, tensor: torch.Tensor) -> torch.Tensor:
        """All elements are taken to be selected: the largest result that the op can have."""
        self.note_made_up(str(packet.default))
        if packet is aten.nonzero:
            return torch.empty(tensor.numel(), tensor.dim(), dtype=torch.int64, device=META)
        return torch.empty(tensor.numel(), dtype=tensor.dtype, device=META)


def _without_values(tensor: torch.Tensor) -> torch.Tensor:
    """A CPU tensor of the same shape and dtype that takes no memory."""
    return torch.empty((), dtype=tensor.dtype, device=CPU).expand(tensor.shape)


def _is_abstract_under_modes(tensor: torch.Tensor) -> bool:
    with torch._C.DisableTorchFunction():
        return is_abstract(tensor)


def _is_float(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _is_abstract_tensor(item: Any) -> bool:
    return isinstance(item, torch.Tensor) and is_abstract(item)


# A copy to another device and a fused attention are made by hand, in place of ops that autograd
# knows. The graph of a user's own training step must not end there: the gradient of a copy is
# copied back, those of attention are as large as its operands.

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
