"""Folding: of identical layers in a stack, one is run and the others take over its result.

Two layers are of one **kind** when they agree in classes, shapes and dtypes of parameters and
buffers, and plain attributes of every module inside (``sliding_window``, ``layer_type``, ...), and
in what the configuration says about them in lists as long as the stack (``layer_types``).
Attributes that merely say which layer it is do not count.  What differs in any attribute is run
for itself: a wrong guess costs time, never a wrong answer.

A folded call gives tensors of the same shapes, dtypes and labels as the call of its
representative; where that call passed one of its arguments through, the same argument of this
call is passed through.  What a layer writes elsewhere, its cache, is not written: whoever counts
caches counts the representative's once for each layer that it stands for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_unflatten

from devplan.models import BlockSite
from devplan.virtual.labels import is_abstract, label_of, mark
from devplan.virtual.memory import rounded

_PLAIN = (bool, int, float, str, type(None), torch.dtype)
_SAID = (*_PLAIN, list, tuple)
_MISSING = object()


def layer_kinds(sites: Iterable[BlockSite], config: Any) -> dict[str, Hashable]:
    """The kind of each layer of every stack; layers of one kind may be folded.

    Layers of different stacks are never of one kind: an encoder does not stand for a decoder.
    """
    stacks: dict[str, list[BlockSite]] = defaultdict(list)
    for site in sites:
        if site.stack is not None and site.module is not None:
            stacks[site.stack].append(site)
    found: dict[str, Hashable] = {}
    for stack, layers in stacks.items():
        modules = [layer.module for layer in layers]
        for layer, first in zip(layers, _first_alike(modules, config), strict=True):
            found[layer.name] = (stack, first)
    return found


def layer_numbers(sites: Iterable[BlockSite]) -> dict[str, int]:
    """The number of each layer in its stack."""
    counts: dict[str, int] = defaultdict(int)
    found = {}
    for site in sites:
        if site.stack is not None and site.module is not None:
            found[site.name] = counts[site.stack]
            counts[site.stack] += 1
    return found


def _first_alike(layers: Sequence[nn.Module], config: Any) -> list[int]:
    """For each layer the number of the first that it is like."""
    per_layer = _per_layer_settings(config, len(layers))
    settings = [[setting[index] for setting in per_layer] for index in range(len(layers))]
    index_names = _index_names(layers)
    firsts: list[int] = []
    for index, layer in enumerate(layers):
        alike = (
            first
            for first in dict.fromkeys(firsts)
            if settings[first] == settings[index]
            and _are_alike(layers[first], layer, first, index, index_names)
        )
        firsts.append(next(alike, index))
    return firsts


def _per_layer_settings(config: Any, num_layers: int) -> list[Sequence[Any]]:
    """Lists of the configuration, and of configurations inside it, with one item a layer.

    A list that merely counts the layers (``moe_layers: [0, 1, 2, ...]``) tells none from another.
    """
    values = vars(config).values() if hasattr(config, "__dict__") else ()
    counted = list(range(num_layers))
    found = []
    for value in values:
        if isinstance(value, (list, tuple)) and len(value) == num_layers:
            if list(value) != counted:
                found.append(value)
        elif hasattr(value, "to_dict"):
            found.extend(_per_layer_settings(value, num_layers))
    return found


def _index_names(layers: Sequence[nn.Module]) -> frozenset[str]:
    """Attributes that say which layer it is: 0 all over the first layer, 1 all over the second."""
    names: dict[str, bool] = {}
    for index, layer in enumerate(layers[:2]):
        for module in layer.modules():
            for name, value in vars(module).items():
                if type(value) is int:
                    names[name] = names.get(name, True) and value == index
    return frozenset(name for name, agrees in names.items() if agrees)


def _are_alike(
    one: nn.Module, other: nn.Module, index: int, other_index: int, index_names: frozenset[str]
) -> bool:
    """Whether two modules compute the same shapes.

    Attributes of `index_names` are counted from the number of the layer.  The two trees are
    walked side by side and nothing is built: layers with hundreds of experts have many modules.
    """
    if type(one) is not type(other):
        return False
    attributes, others = one.__dict__, other.__dict__
    if len(attributes) != len(others):
        return False
    for name, value in attributes.items():
        if name[0] == "_" or not isinstance(value, _SAID):
            continue
        said = others.get(name, _MISSING)
        if _differ(value, said) and not (
            name in index_names and said is not _MISSING and value - index == said - other_index
        ):
            return False
    return (
        _tensors_alike(one._parameters, other._parameters)
        and _tensors_alike(one._buffers, other._buffers)
        and one._modules.keys() == other._modules.keys()
        and all(
            child is twin
            or (
                child is not None
                and twin is not None
                and _are_alike(child, twin, index, other_index, index_names)
            )
            for child, twin in zip(one._modules.values(), other._modules.values(), strict=True)
        )
    )


def _differ(value: Any, said: Any) -> bool:
    """Whether two attributes say something different; tensors in lists say what they look like."""
    try:
        return bool(value != said)
    except (RuntimeError, ValueError):  # the truth of a tensor, or of an array
        (leaves, spec), (others, other_spec) = tree_flatten(value), tree_flatten(said)
        return spec != other_spec or list(map(_said, leaves)) != list(map(_said, others))


def _said(leaf: Any) -> Any:
    return (leaf.shape, leaf.dtype) if hasattr(leaf, "shape") else leaf


def _tensors_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one.keys() != other.keys():
        return False
    return all(
        tensor is twin
        or (
            tensor is not None
            and twin is not None
            and tensor.shape == twin.shape
            and tensor.dtype == twin.dtype
            and label_of(tensor) == label_of(twin)
        )
        for tensor, twin in zip(one.values(), other.values(), strict=True)
    )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a call of a representative gave, to be given again for the layers it stands for."""

    maker: str
    leaves: tuple[Any, ...]
    """Tensors as (shape, stride, dtype, label) or values; passed-through arguments by position."""
    spec: Any


@dataclass(frozen=True, kw_only=True)
class _Shaped:
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device | None


@dataclass(frozen=True, kw_only=True)
class _Argument:
    position: int


def call_signature(args: tuple, kwargs: Mapping[str, Any]) -> Hashable:
    """Equal for calls that a layer cannot tell apart, but for values of its tensors."""
    leaves, spec = tree_flatten((args, dict(kwargs)))
    return str(spec), tuple(
        (leaf.shape, leaf.dtype, label_of(leaf))
        if isinstance(leaf, torch.Tensor)
        else (leaf if isinstance(leaf, _PLAIN) else type(leaf))
        for leaf in leaves
    )


def remember(result: Any, args: tuple, kwargs: Mapping[str, Any], maker: str) -> Outcome | None:
    """The outcome of a call, or None when it holds a value that cannot be given twice."""
    with torch._C.DisableTorchFunction():  # real devices, not the virtual machine's answers
        return _remember(result, args, kwargs, maker)


def _remember(result: Any, args: tuple, kwargs: Mapping[str, Any], maker: str) -> Outcome | None:
    arguments, _ = tree_flatten((args, dict(kwargs)))
    position = {id(leaf): place for place, leaf in enumerate(arguments) if leaf is not None}
    leaves, spec = tree_flatten(result)
    kept: list[Any] = []
    for leaf in leaves:
        if not isinstance(leaf, _PLAIN) and id(leaf) in position:
            kept.append(_Argument(position=position[id(leaf)]))
        elif isinstance(leaf, torch.Tensor) and is_abstract(leaf):
            kept.append(
                _Shaped(
                    shape=tuple(leaf.shape),
                    stride=leaf.stride(),
                    dtype=leaf.dtype,
                    device=label_of(leaf),
                )
            )
        elif isinstance(leaf, torch.Tensor):
            kept.append(_copy(leaf, maker))  # the model's own dies when the model lets go of it
        elif isinstance(leaf, _PLAIN):
            kept.append(leaf)
        else:
            return None
    return Outcome(maker=maker, leaves=tuple(kept), spec=spec)


def repeat(outcome: Outcome, args: tuple, kwargs: Mapping[str, Any], maker: str) -> Any:
    """The outcome once more, as if `maker` had computed it from these arguments.

    No mode sees it: what the model's code makes on meta lies there, this where the outcome lay.
    """
    arguments, _ = tree_flatten((args, dict(kwargs)))
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        leaves = [_repeat_leaf(leaf, arguments, maker) for leaf in outcome.leaves]
    return tree_unflatten(leaves, outcome.spec)


def _repeat_leaf(leaf: Any, arguments: list[Any], maker: str) -> Any:
    if isinstance(leaf, _Argument):
        return arguments[leaf.position]
    if isinstance(leaf, _Shaped):
        tensor = torch.empty_strided(leaf.shape, leaf.stride, dtype=leaf.dtype, device="meta")
        return mark(tensor, leaf.device, maker)
    return _copy(leaf, maker) if isinstance(leaf, torch.Tensor) else leaf


def _copy(tensor: torch.Tensor, maker: str) -> torch.Tensor:
    with _disable_current_modes():
        return mark(tensor.clone(), label_of(tensor), maker)


def result_bytes(outcome: Outcome) -> dict[torch.device, int]:
    """Bytes of the tensors that a call gave; they are made anew at each repetition."""
    found: dict[torch.device, int] = {}
    for leaf in outcome.leaves:
        if isinstance(leaf, _Shaped) and leaf.device is not None:
            size = rounded(torch.Size(leaf.shape).numel() * leaf.dtype.itemsize)
            found[leaf.device] = found.get(leaf.device, 0) + size
    return found


def extrapolate(first: Outcome, second: Outcome, steps: float) -> Outcome | None:
    """The outcome of a larger call, from those of two smaller ones; None when shapes disagree.

    Parameters
    ----------
    first, second
        Outcomes of the same layer at two numbers of tokens.
    steps
        How many times the difference between the two lies between the first and the larger call.
    """
    if first.spec != second.spec or len(first.leaves) != len(second.leaves):
        return None
    leaves = []
    for small, large in zip(first.leaves, second.leaves, strict=True):
        if isinstance(small, _Shaped) and isinstance(large, _Shaped):
            shape = tuple(
                a + round((b - a) * steps) for a, b in zip(small.shape, large.shape, strict=True)
            )
            stride = torch.empty(shape, device="meta").stride()
            leaves.append(replace(small, shape=shape, stride=stride))
        elif small == large:
            leaves.append(small)
        else:
            return None
    return Outcome(maker=first.maker, leaves=tuple(leaves), spec=first.spec)


# Repeats. A pipeline runs its models step after step, and its autoencoder tile after tile: there
# the result of a block's call is used again for later calls of that block whose inputs cannot be
# told apart.
#
# Exceptions: a call that changed a list which it was given is not repeated, in any model. The
# autoencoder of a video passes the features of some frames to the next ones in such lists, and
# which features are next. A call of a single block that gave integers is not repeated either:
# another call may give others.

Lists = list[tuple[list, tuple[int, ...]]]

_AGAIN = "again"


@dataclass(frozen=True, kw_only=True)
class RanCall:
    """What a representative's call did, to be done again for the layers it stands for."""

    outcome: Outcome
    noted: tuple[Any, ...]
    """What each observer of the run noted of it."""


def kinds_with_repeats(sites: Iterable[BlockSite], config: Any) -> dict[str, Hashable]:
    """The kinds of layers, and a kind of its own for every other block that is a module."""
    sites = tuple(sites)
    single = {site.name: (_AGAIN, site.name) for site in sites if site.module is not None}
    return {**single, **layer_kinds(sites, config)}


def lists_among(args: tuple, kwargs: Mapping[str, Any]) -> Lists:
    """The lists among the arguments of a call, with what is in them."""
    found: Lists = []
    pending: list[Any] = [*args, *kwargs.values()]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            found.append((value, tuple(map(id, value))))
        if isinstance(value, (list, tuple)):
            pending.extend(item for item in value if isinstance(item, (list, tuple)))
    return found


def are_as_before(lists: Lists) -> bool:
    """Whether a call left the lists that it was given as they were."""
    return all(tuple(map(id, items)) == before for items, before in lists)


def may_stand(outcome: Outcome | None, kind: Hashable) -> bool:
    """Whether what a call gave may be given again for another call of the kind."""
    if outcome is None or kind[0] != _AGAIN:
        return outcome is not None
    return not any(isinstance(leaf, torch.Tensor) for leaf in outcome.leaves)
