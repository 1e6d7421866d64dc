"""Calls as models make them, on operands that lie near (``cuda:0``) and far (elsewhere).

Each case is one piece of Python code and what real PyTorch says to it: the message, or None where
it runs.  ``test_rules_ops.py`` asks the rules with labels; ``test_rules_gpu.py`` runs the same
code on a real GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

Place = Callable[[torch.Tensor], torch.Tensor]

TWO = "Expected all tensors to be on the same device, but found at least two devices, {0} and {1}!"
TWO_NEAR = TWO.format("{near}", "{far}")
TWO_FAR = TWO.format("{far}", "{near}")
INDICES = "indices should be either on cpu or on the same device as the indexed tensor ({near})"


def wrapper(argument: str, method: str, odd: str = "far", common: str = "near") -> str:
    """What a generated wrapper says."""
    return (
        f"Expected all tensors to be on the same device, but got {argument} is on {{{odd}}}, "
        f"different from other tensors on {{{common}}} "
        f"(when checking argument in method wrapper_CUDA_{method})"
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """Code over near and far operands; its message for a far CPU and for a far GPU."""

    name: str
    run: Callable[[Place, Place], object]
    cpu: str | None
    gpu: str | None
    same_words: bool = True
    """False: the CPU takes the call apart otherwise than CUDA, and the words differ."""


def both(name: str, text: str | None, run, *, same_words: bool = True) -> Case:
    """The far device makes no difference but for its name."""
    return Case(name=name, run=run, cpu=text, gpu=text, same_words=same_words)


def split(name: str, run, *, cpu: str | None, gpu: str | None) -> Case:
    """A CPU is treated otherwise than another GPU."""
    return Case(name=name, run=run, cpu=cpu, gpu=gpu)


def x() -> torch.Tensor:
    return torch.arange(6.0).reshape(2, 3)


def ids() -> torch.Tensor:
    return torch.tensor([1, 0])


def mask() -> torch.Tensor:
    return torch.tensor([True, False])


def scalar() -> torch.Tensor:
    return torch.tensor(2.0)


def full_mask() -> torch.Tensor:
    return torch.tensor([[True, False, True], [False, False, True]])


def _set(target: torch.Tensor, key, value) -> None:
    target[key] = value


def _index_put(target, indices, value, accumulate):
    target.index_put_(indices, value, accumulate=accumulate)


def _conv(near: Place, far: Place, bias: bool):
    weight, offset = torch.randn(4, 3, 2), torch.randn(4)
    image = near(torch.randn(1, 3, 5))
    return F.conv1d(image, near(weight), far(offset)) if bias else F.conv1d(image, far(weight))


def _attend(query: Place, key: Place, masked: Place | None):
    q, k, v = (torch.randn(1, 2, 4, 8) for _ in range(3))
    bias = None if masked is None else masked(torch.zeros(1, 1, 4, 4))
    return torch.ops.aten.scaled_dot_product_attention(query(q), key(k), query(v), bias)


def _out(near: Place, far: Place):
    return torch.add(near(x()), near(x()), out=far(x()))


READING = [
    split("index by ids", lambda n, f: n(x())[f(ids())], cpu=None, gpu=INDICES),
    split("index by mask", lambda n, f: n(x())[f(mask())], cpu=None, gpu=INDICES),
    split("index in the middle", lambda n, f: n(x())[:, f(ids())], cpu=None, gpu=INDICES),
    split("index near and far", lambda n, f: n(x())[n(ids()), f(ids())], cpu=None, gpu=INDICES),
    both("index a far tensor", INDICES.replace("near", "far"), lambda n, f: f(x())[n(mask())]),
    both("index by a 0-dim number", None, lambda n, f: n(x())[f(torch.tensor(1))]),
    both("gather", wrapper("index", "gather"), lambda n, f: n(x()).gather(1, f(ids()[:, None]))),
    both(
        "take_along_dim",
        wrapper("index", "gather"),
        lambda n, f: torch.take_along_dim(n(x()), f(ids()[:, None]), dim=1),
    ),
    both(
        "index_select",
        wrapper("index", "_index_select"),
        lambda n, f: n(x()).index_select(0, f(ids())),
    ),
    both(
        "repeat_interleave",
        wrapper("index", "_index_select"),
        lambda n, f: n(x()).repeat_interleave(f(ids()), dim=0),
    ),
    both("take", wrapper("index", "_take"), lambda n, f: n(x()).take(f(ids()))),
    both(
        "masked_select",
        wrapper("mask", "_masked_select"),
        lambda n, f: n(x()).masked_select(f(full_mask())),
    ),
    both(
        "embedding",
        wrapper("index", "_index_select"),
        lambda n, f: F.embedding(f(ids()), n(x())),
    ),
    both(
        "embedding, far weight",
        wrapper("index", "_index_select", odd="near", common="far"),
        lambda n, f: F.embedding(n(ids()), f(x())),
    ),
    both(
        "embedding_bag",
        wrapper("indices", "__embedding_bag_forward_only"),
        lambda n, f: F.embedding_bag(f(ids()), n(x()), f(torch.tensor([0]))),
    ),
    both(
        "bucketize",
        wrapper("boundaries", "Tensor_bucketize"),
        lambda n, f: torch.bucketize(n(x()), f(torch.arange(3.0))),
    ),
    both(
        "bucketize a number",
        wrapper("boundaries", "Tensor_bucketize"),
        lambda n, f: torch.bucketize(n(scalar()), f(torch.arange(3.0))),
    ),
    both(
        "searchsorted",
        wrapper("self", "Tensor_searchsorted", odd="near", common="far"),
        lambda n, f: torch.searchsorted(f(torch.arange(3.0)), n(torch.arange(3.0))),
    ),
    both(
        "isin",
        wrapper("test_elements", "isin_Tensor_Tensor"),
        lambda n, f: torch.isin(n(ids()), f(torch.tensor([1]))),
    ),
    both(
        "isin of one number",
        wrapper("test_elements", "isin_Tensor_Tensor"),
        lambda n, f: torch.isin(n(ids()), f(torch.tensor(1))),
    ),
    both(
        "grid_sample",
        "grid_sampler(): expected input and grid to be on same device, but input is on {near} "
        "and grid is on {far}",
        lambda n, f: F.grid_sample(
            n(torch.zeros(1, 1, 2, 2)), f(torch.zeros(1, 2, 2, 2)), align_corners=False
        ),
    ),
]

WRITING = [
    both(
        "slice assignment",
        None,
        lambda n, f: _set(n(x()), (slice(None), slice(0, 2)), f(x()[:, :2])),
    ),
    both("copy_", None, lambda n, f: n(x()).copy_(f(x()))),
    both("assign under a far mask", None, lambda n, f: _set(n(x()), f(mask()), n(x()[:1]))),
    both("assign at far ids", None, lambda n, f: _set(n(x()), f(ids()), n(x()))),
    both("assign far values", TWO_NEAR, lambda n, f: _set(n(x()), n(ids()), f(x()))),
    both(
        "assign far values under a mask", TWO_NEAR, lambda n, f: _set(n(x()), n(mask()), f(x()[:1]))
    ),
    both("assign a 0-dim value", None, lambda n, f: _set(n(x()), n(mask()), f(scalar()))),
    both("assign a number", None, lambda n, f: _set(n(x()), f(mask()), 3.0)),
    # Python strips leading dimensions of size 1 from the value: it arrives without dimensions.
    both("assign one element", None, lambda n, f: _set(n(x()), n(ids()), f(torch.tensor([2.0])))),
    split(
        "put one element under a mask",
        lambda n, f: _index_put(n(x()), (n(mask()),), f(torch.tensor([2.0])), False),
        cpu=None,
        gpu=TWO_NEAR,
    ),
    both(
        "put one element under a far mask",
        TWO_NEAR,
        lambda n, f: _index_put(n(x()), (f(mask()),), f(torch.tensor([2.0])), False),
    ),
    both(
        "put one element at ids",
        TWO_NEAR,
        lambda n, f: _index_put(n(x()), (n(ids()),), f(torch.tensor([2.0])), False),
    ),
    both(
        "put one element at rows and columns",
        TWO_NEAR,
        lambda n, f: _index_put(n(x()), (n(ids()), n(ids())), f(torch.tensor([2.0])), False),
    ),
    both(
        "put one element under two masks",
        TWO_NEAR,
        lambda n, f: _index_put(
            n(x()), (n(mask()), n(torch.tensor([1]))), f(torch.tensor([2.0])), False
        ),
    ),
    split(
        "assign into a far tensor",
        lambda n, f: _set(f(x()), f(ids()), n(x())),
        cpu=TWO_NEAR,
        gpu=TWO_FAR,
    ),
    both(
        "accumulate far values",
        "expected device {near} but got device {far} for value tensor",
        lambda n, f: _index_put(n(x()), (n(ids()),), f(x()), True),
    ),
    both(
        "masked_fill",
        "expected self and mask to be on the same device, but got mask on {far} and self on {near}",
        lambda n, f: n(x()).masked_fill(f(full_mask()), 0.0),
    ),
    both(
        "masked_fill_ a far tensor",
        "expected self and mask to be on the same device, but got mask on {near} and self on {far}",
        lambda n, f: f(x()).masked_fill_(n(full_mask()), 0.0),
    ),
    both(
        "masked_fill by a far 0-dim value",
        None,
        lambda n, f: n(x()).masked_fill(n(full_mask()), f(scalar())),
    ),
    both(
        "masked_scatter, mask",
        wrapper("mask", "_masked_scatter_"),
        lambda n, f: n(x()).masked_scatter(f(full_mask()), n(x())),
    ),
    both(
        "masked_scatter_, source",
        wrapper("source", "_masked_scatter_"),
        lambda n, f: n(x()).masked_scatter_(n(full_mask()), f(x())),
    ),
    both(
        "scatter_, index",
        wrapper("index", "scatter__src"),
        lambda n, f: n(x()).scatter_(0, f(torch.zeros(2, 3).long()), n(x())),
    ),
    both(
        "scatter, value",
        wrapper("index", "scatter_value"),
        lambda n, f: n(x()).scatter(0, f(torch.zeros(2, 3).long()), 1.0),
    ),
    both(
        "scatter_add_, src",
        wrapper("src", "scatter_add_"),
        lambda n, f: n(x()).scatter_add_(0, n(torch.zeros(2, 3).long()), f(x())),
    ),
    both(
        "scatter_reduce",
        wrapper("src", "scatter_reduce_two"),
        lambda n, f: n(x()).scatter_reduce(0, n(torch.zeros(2, 3).long()), f(x()), "sum"),
    ),
    both(
        "index_copy_, index",
        wrapper("index", "index_copy_"),
        lambda n, f: n(x()).index_copy_(0, f(ids()), n(x())),
    ),
    both(
        "index_copy_, source",
        wrapper("source", "index_copy_"),
        lambda n, f: n(x()).index_copy_(0, n(ids()), f(x())),
    ),
    both(
        "index_add_",
        wrapper("index", "index_add_"),
        lambda n, f: n(x()).index_add_(0, f(ids()), n(x())),
    ),
    both("index_fill_", TWO_NEAR, lambda n, f: n(x()).index_fill_(0, f(ids()), 1.0)),
    both(
        "index_fill_ by a far 0-dim index",
        TWO_NEAR,
        lambda n, f: n(x()).index_fill_(0, f(torch.tensor(1)), 1.0),
    ),
    both(
        "index_fill by a far 0-dim index and a far 0-dim value",
        TWO_NEAR,
        lambda n, f: n(x()).index_fill(0, f(torch.tensor(1)), f(scalar())),
    ),
    both(
        "index_fill by a far 0-dim value",
        None,
        lambda n, f: n(x()).index_fill(0, n(ids()), f(scalar())),
    ),
    both("fill_", None, lambda n, f: n(x()).fill_(f(scalar()))),
    both(
        "put_",
        wrapper("index", "_put_"),
        lambda n, f: n(x()).put_(f(ids()), n(torch.ones(2))),
    ),
]

ELEMENTWISE = [
    both("add", TWO_NEAR, lambda n, f: n(x()) + f(x())),
    split("add, far first", lambda n, f: f(x()) + n(x()), cpu=TWO_NEAR, gpu=TWO_FAR),
    split("add 0-dim", lambda n, f: n(x()) + f(scalar()), cpu=None, gpu=TWO_NEAR),
    split("0-dim times", lambda n, f: f(scalar()) * n(x()), cpu=None, gpu=TWO_FAR),
    both("add a number", None, lambda n, f: n(x()) + 2),
    both("+= far", TWO_NEAR, lambda n, f: n(x()).__iadd__(f(x()))),
    split("-= far 0-dim", lambda n, f: n(x()).__isub__(f(scalar())), cpu=None, gpu=TWO_NEAR),
    split(
        "far 0-dim += near 0-dim",
        lambda n, f: f(scalar()).add_(n(scalar())),
        cpu=TWO_NEAR,
        gpu=TWO_FAR,
    ),
    both("one element is no scalar", TWO_NEAR, lambda n, f: n(x()) * f(torch.tensor([2.0]))),
    both("eq", TWO_NEAR, lambda n, f: n(ids()) == f(ids())),
    split("gt 0-dim", lambda n, f: n(ids()) > f(torch.tensor(1)), cpu=None, gpu=TWO_NEAR),
    both("bitwise and", TWO_NEAR, lambda n, f: n(mask()) & f(mask())),
    both("logical_and", TWO_NEAR, lambda n, f: torch.logical_and(n(mask()), f(mask()))),
    both("maximum", TWO_NEAR, lambda n, f: torch.maximum(n(x()), f(x()))),
    split("pow", lambda n, f: torch.pow(f(scalar()), n(x())), cpu=None, gpu=TWO_FAR),
    split(
        "where, condition",
        lambda n, f: torch.where(f(full_mask()), n(x()), n(x())),
        cpu=TWO_NEAR,
        gpu=TWO_FAR,
    ),
    split(
        "where, 0-dim condition",
        lambda n, f: torch.where(f(torch.tensor(True)), n(x()), n(x())),
        cpu=None,
        gpu=TWO_FAR,
    ),
    both("where, other", TWO_NEAR, lambda n, f: torch.where(n(full_mask()), n(x()), f(x()))),
    both("where, 0-dim other", None, lambda n, f: torch.where(n(full_mask()), n(x()), f(scalar()))),
    both(
        "where, two 0-dim branches",
        None,
        lambda n, f: torch.where(n(full_mask()), f(scalar()), f(scalar())),
    ),
    both("where with numbers", None, lambda n, f: torch.where(n(full_mask()), 0.0, -1.0)),
    split(
        "addcmul 0-dim",
        lambda n, f: torch.addcmul(n(x()), n(x()), f(scalar())),
        cpu=None,
        gpu=TWO_NEAR,
    ),
    split(
        "addcmul, two 0-dim",
        lambda n, f: torch.addcmul(n(x()), f(scalar()), f(scalar())),
        cpu="Trying to pass too many CPU scalars to non-CPU kernel!",
        gpu=TWO_NEAR,
    ),
    both(
        "addcdiv 0-dim",
        TWO_NEAR,
        lambda n, f: torch.addcdiv(n(x()), n(x()), f(scalar())),
    ),
    split(
        "lerp, 0-dim weight",
        lambda n, f: torch.lerp(n(x()), n(x()), f(scalar())),
        cpu=None,
        gpu=TWO_NEAR,
    ),
    both("lerp, end", TWO_NEAR, lambda n, f: torch.lerp(n(x()), f(x()), 0.5)),
    both(
        "clamp by a 0-dim bound",
        wrapper("max", "clamp_Tensor"),
        lambda n, f: n(x()).clamp(max=f(scalar())),
    ),
    both("clamp by numbers", None, lambda n, f: n(x()).clamp(0.0, 1.0)),
    both("complex", TWO_NEAR, lambda n, f: torch.complex(n(x()), f(x()))),
    both("polar", TWO_NEAR, lambda n, f: torch.polar(n(x()), f(x()))),
    both("equal", wrapper("other", "_equal"), lambda n, f: torch.equal(n(x()), f(x()))),
    both("mse_loss", TWO_NEAR, lambda n, f: F.mse_loss(n(x()), f(x()))),
    split("add out=", _out, cpu=TWO_NEAR, gpu=TWO_FAR),
    both("foreach", TWO_NEAR, lambda n, f: torch._foreach_add([n(x()), n(x())], [n(x()), f(x())])),
    both(
        "foreach over two devices",
        None,
        lambda n, f: torch._foreach_mul([n(x()), f(x())], [n(x()), f(x())]),
    ),
]

MATRICES = [
    both("mm", wrapper("mat2", "mm"), lambda n, f: n(x()) @ f(x().T)),
    both("mm, CPU first", wrapper("mat2", "mm", "near", "far"), lambda n, f: f(x()) @ n(x().T)),
    both("bmm", wrapper("mat2", "bmm"), lambda n, f: n(x()[None]) @ f(x().T[None])),
    both(
        "matmul of four dimensions",
        wrapper("mat2", "bmm"),
        lambda n, f: n(torch.ones(2, 2, 3, 4)) @ f(torch.ones(2, 2, 4, 3)),
    ),
    both("mv", wrapper("mat", "addmv_", "near", "far"), lambda n, f: n(x()) @ f(torch.ones(3))),
    both("linear, weight", wrapper("mat2", "mm"), lambda n, f: F.linear(n(x()), f(x()))),
    both(
        "linear with bias, input",
        wrapper("mat1", "addmm"),
        lambda n, f: F.linear(f(x()), n(x()), n(torch.ones(2))),
    ),
    both(
        "baddbmm",
        wrapper("self", "baddbmm", "near", "far").replace("got self", "got batch1"),
        lambda n, f: torch.baddbmm(f(torch.ones(1, 2, 2)), n(x()[None]), n(x().T[None])),
    ),
    both(
        "einsum",
        wrapper("mat2", "bmm"),
        lambda n, f: torch.einsum("ij,kj->ik", n(x()), f(x())),
    ),
    both("outer", TWO_NEAR, lambda n, f: torch.outer(n(torch.ones(2)), f(torch.ones(3)))),
    both("cat", wrapper("tensors", "cat"), lambda n, f: torch.cat([n(x()), f(x())])),
    both(
        "cat, second of three",
        wrapper("tensors", "cat"),
        lambda n, f: torch.cat([n(x()), f(x()), n(x())]),
    ),
    both(
        "cat with an empty tensor",
        wrapper("tensors", "cat", "near", "far"),
        lambda n, f: torch.cat([f(torch.tensor([])), n(x())]),
    ),
    both("stack", wrapper("tensors", "cat"), lambda n, f: torch.stack([n(x()), f(x())])),
    both(
        "stack of 0-dim",
        wrapper("tensors", "cat"),
        lambda n, f: torch.stack([n(scalar()), f(scalar())]),
    ),
    both("hstack", wrapper("tensors", "cat"), lambda n, f: torch.hstack([n(x()), f(x())])),
    both(
        "cross", wrapper("other", "linalg_cross"), lambda n, f: torch.linalg.cross(n(x()), f(x()))
    ),
    both(
        "cdist", wrapper("x2", "__cdist_forward"), lambda n, f: torch.cdist(n(x()), f(x()), p=1.0)
    ),
    both(
        "layer_norm",
        wrapper("weight", "_native_layer_norm"),
        lambda n, f: F.layer_norm(n(x()), (3,), f(torch.ones(3)), f(torch.ones(3))),
    ),
    both(
        "group_norm",
        wrapper("weight", "_native_group_norm"),
        lambda n, f: F.group_norm(n(torch.ones(1, 2, 3)), 2, f(torch.ones(2)), f(torch.ones(2))),
    ),
    both(
        "batch_norm, running mean",
        wrapper("running_mean", "_native_batch_norm"),
        lambda n, f: F.batch_norm(n(x()), f(torch.zeros(3)), n(torch.ones(3))),
        same_words=False,  # cuDNN's wrapper or the native one, by shape and dtype
    ),
    split(
        "conv, weight",
        lambda n, f: _conv(n, f, False),
        cpu="Input type (torch.cuda.FloatTensor) and weight type (torch.FloatTensor) "
        "should be the same",
        gpu=wrapper("weight", "_cudnn_convolution"),
    ),
    split(
        "conv, bias",
        lambda n, f: _conv(n, f, True),
        cpu="Input type (torch.cuda.FloatTensor) and bias type (torch.FloatTensor) "
        "should be the same",
        gpu=TWO_NEAR,
    ),
    both(
        "attention, key",
        "Expected query, key, and value to have the same device type, but got query.device: {near} "
        "key.device: {far} and value.device: {near} instead.",
        lambda n, f: _attend(n, f, None),
    ),
    both(
        "attention, mask",
        wrapper("attn_bias", "___scaled_dot_product_efficient_attention"),
        lambda n, f: _attend(n, n, f),
        same_words=False,
    ),
    both("attention", None, lambda n, f: _attend(n, n, n)),
    both(
        "cross_entropy",
        wrapper("target", "nll_loss_forward"),
        lambda n, f: F.cross_entropy(n(x()), f(ids())),
    ),
    both(
        "bincount with weights",
        wrapper("weights", "_bincount"),
        lambda n, f: torch.bincount(n(ids()), f(torch.ones(2))),
    ),
    both(
        "prelu",
        wrapper("weight", "__prelu_kernel"),
        lambda n, f: F.prelu(n(x()), f(torch.ones(1))),
    ),
]

HARMLESS = [
    both("to", None, lambda n, f: f(x()).to(torch.float64).to(n(x()))),
    both("expand_as", None, lambda n, f: n(mask()[:, None]).expand_as(f(x())) & n(full_mask())),
    both("view_as", None, lambda n, f: n(x()).view_as(f(x())) + n(x())),
    both("reshape_as", None, lambda n, f: n(x()).reshape_as(f(x())) + n(x())),
    both("zeros_like", None, lambda n, f: torch.zeros_like(f(x())) + f(x())),
    both("new_zeros", None, lambda n, f: f(x()).new_zeros(2, 3) + f(x())),
    both("item", None, lambda n, f: n(x()) * f(scalar()).item()),
    both("tolist", None, lambda n, f: n(x())[f(ids()).tolist()]),
    both("comparison in an if", None, lambda n, f: n(x()) if f(ids()).max() > 3 else n(x()) + 1),
    both("nonzero", None, lambda n, f: f(mask()).nonzero()[:, 0] + f(torch.zeros(1).long())),
    both(
        "sort, topk, unique", None, lambda n, f: (f(x()).sort(), f(x()).topk(2), f(ids()).unique())
    ),
    both(
        "cumsum, histc, roll", None, lambda n, f: (f(x()).cumsum(0), f(x()).histc(), f(x()).roll(1))
    ),
    both("interpolate", None, lambda n, f: F.interpolate(f(x()[None]), scale_factor=2)),
    both("fft", None, lambda n, f: torch.fft.fft(f(x())) * f(x())),
    both("multinomial", None, lambda n, f: torch.multinomial(f(x() + 1), 1)),
    both("dropout", None, lambda n, f: F.dropout(f(x()), 0.5, True) + f(x())),
]

CASES = [*READING, *WRITING, *ELEMENTWISE, *MATRICES, *HARMLESS]
