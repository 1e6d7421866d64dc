"""A bare module tree from names, shapes and dtypes of tensors, where the class cannot be had.

Two sources, one tree: the safetensors headers of a checkpoint, or the catalogue's summary of them.

The modules are nested as the dotted names say, and none has a ``forward``.  What is a layer is
read off the names: where the children of a module are numbers, and two of them have modules of
their own, these are a stack of layers (``model.layers.0.self_attn.q_proj.weight``), the outermost
such row counts, and experts inside a layer are part of it.  A number that holds tensors itself
(``mlp.0.weight``) is a part of a row, and the row is no stack.  The catalogue names its layers.

The embedding and the head are the first and the last weight with a row for each word of the
vocabulary, where the configuration says how many these are.

What a checkpoint does not hold cannot be seen: buffers that the code makes (rotary embeddings),
and a head that is tied to the embedding.  The skeleton's note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from devplan.catalog import TensorSummary
from devplan.core import STORED_DTYPES, InputError, joined, parse_dtype
from devplan.models.config import refuse_unreal
from devplan.models.source import ModelSource, Skeleton, StoredTensor

_PACKED = ("float8", "integer")
"""Kinds of dtypes that ``from_pretrained`` leaves as they are."""

UNSEEN = (
    "what the checkpoint does not hold (buffers that the code makes, such as rotary embeddings; a "
    "head that is tied to the embedding) is in no entry of the map"
)


@dataclass(frozen=True, kw_only=True)
class _Leaf:
    """One tensor of the tree."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    is_parameter: bool = True


class TensorTree(nn.Module):
    """The root of a tree; answers for its embedding and head as a model's class would."""

    # [names] a checkpoint may well have a module that is called ``embedding`` or ``head``.
    _devplan_embedding: nn.Module | None = None
    _devplan_head: nn.Module | None = None

    def get_input_embeddings(self) -> nn.Module | None:
        return self._devplan_embedding

    def get_output_embeddings(self) -> nn.Module | None:
        return self._devplan_head


_DEEPEST = 100
"""Parts of a name: modules inside of one another, which Python walks by recursion."""
_OF_MODULES = frozenset(dir(nn.Module()))
"""What every module has of its own: a child of that name could not be reached."""

LayerClass = Callable[[str], str | None]
"""Name of a module -> class of a layer, None for what is none."""


def skeleton_from_summary(source: ModelSource, dtype: str | None) -> Skeleton:
    """The tree of a catalogue entry that lists its tensors."""
    summary: TensorSummary = source.catalogue_model.tensors
    compute = parse_dtype(dtype or summary.dtype)
    parameters = (_Leaf(name=n, shape=shape, dtype=compute) for n, shape in summary.expand())
    buffers = (
        _Leaf(name=name, shape=shape, dtype=torch.float32, is_parameter=False)
        for name, shape in summary.buffers.items()
    )
    model = module_from_tensors([*parameters, *buffers], summary.layer_class)
    why = f"{source.class_name} is the model's own code, which is not available"
    no_split = frozenset(summary.layers.values())
    return _skeleton(source, model, compute, why, no_split)


def skeleton_from_stored(source: ModelSource, compute: torch.dtype, why: str) -> Skeleton:
    """The tree of a checkpoint whose class cannot be had.

    Parameters
    ----------
    source
        With the tensors of its safetensors headers.
    compute
        What unquantized weights are cast to.
    why
        What is missing, for the note.
    """
    stored = (source.stored or {}).values()
    quantized = any(STORED_DTYPES[tensor.dtype].kind in _PACKED for tensor in stored)
    leaves = [_leaf(tensor, None if quantized else compute) for tensor in stored]
    model = module_from_tensors(leaves, lambda _: None)
    refuse_unreal(model, source.id)
    return _skeleton(source, model, compute, f"{why}; {UNSEEN}", frozenset())


def module_from_tensors(leaves: Iterable[_Leaf], layer_class: LayerClass) -> TensorTree:
    """Modules nested as the dotted names say, with meta tensors of the given shapes."""
    root: dict = {}
    for leaf in leaves:
        *path, last = leaf.name.split(".")
        _refuse_names(leaf.name, (*path, last))
        branch = root
        for part in path:
            branch = branch.setdefault(part, {})
            if isinstance(branch, _Leaf):
                raise _clash(leaf.name, branch.name)
        if last in branch:
            raise _clash(leaf.name, joined(leaf.name, next(iter(branch[last]))))
        branch[last] = leaf
    tree = TensorTree()
    _grow(tree, root, "", layer_class, {})
    return tree


def _refuse_names(name: str, parts: tuple[str, ...]) -> None:
    if len(parts) > _DEEPEST:
        raise InputError(
            f"the checkpoint has a tensor {_shown(name)}, whose name has {len(parts):,} parts, and "
            f"devplan reads up to {_DEEPEST}; give the folder of the model as it was saved"
        )
    wrong = next((part for part in parts if not part or part in _OF_MODULES), None)
    if wrong is not None:
        raise InputError(
            f"the checkpoint has a tensor {_shown(name)}, and no module can have a part that "
            f"is called {_shown(wrong)}; give the folder of the model as it was saved"
        )


def _clash(name: str, other: str) -> InputError:
    return InputError(
        f"the checkpoint has the tensors {_shown(name)} and {_shown(other)}, and a tensor "
        "cannot hold another; give the folder of the model as it was saved"
    )


def _shown(name: str) -> str:
    """The name of a tensor for a message."""
    return repr(name) if len(name) <= 80 else f"{name[:80]!r}..."


def _grow(
    module: nn.Module,
    branch: Mapping,
    name: str,
    layer_class: LayerClass,
    classes: dict[str, type[nn.Module]],
) -> None:
    for part, inner in _in_order(branch):
        if isinstance(inner, _Leaf):
            _register(module, part, inner)
        else:
            path = joined(name, part)
            child = _module(inner, layer_class(path), classes)
            module.add_module(part, child)
            _grow(child, inner, path, layer_class, classes)


def _in_order(branch: Mapping) -> Iterator[tuple[str, object]]:
    """Numbers by their size: headers are sorted as text, where 10 comes before 2."""
    if all(part.isdecimal() for part in branch):
        return iter(sorted(branch.items(), key=lambda item: int(item[0])))
    return iter(branch.items())


def _module(
    branch: Mapping, class_name: str | None, classes: dict[str, type[nn.Module]]
) -> nn.Module:
    if class_name is not None:
        return classes.setdefault(class_name, type(class_name, (nn.Module,), {}))()
    return nn.ModuleList() if _is_stack(branch) else nn.Module()


def _is_stack(branch: Mapping) -> bool:
    """Whether the children are numbers, and two of them have modules of their own."""
    if not all(part.isdecimal() for part in branch):
        return False
    rows = (inner for inner in branch.values() if not isinstance(inner, _Leaf))
    composite = [row for row in rows if any(not isinstance(x, _Leaf) for x in row.values())]
    return len(composite) >= 2


def _register(module: nn.Module, name: str, leaf: _Leaf) -> None:
    tensor = torch.empty(leaf.shape, dtype=leaf.dtype, device="meta")
    if leaf.is_parameter:
        module.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
    else:
        module.register_buffer(name, tensor, persistent=False)


def _leaf(tensor: StoredTensor, compute: torch.dtype | None) -> _Leaf:
    """A tensor as ``from_pretrained`` loads it, or as bytes where torch has no such dtype."""
    stored = STORED_DTYPES[tensor.dtype]
    if stored.kind == "float":
        dtype = compute or parse_dtype(stored.name)
        return _Leaf(name=tensor.name, shape=tensor.shape, dtype=dtype)
    if stored.kind in _PACKED:
        return _Leaf(name=tensor.name, shape=tensor.shape, dtype=parse_dtype(stored.name))
    return _Leaf(name=tensor.name, shape=(tensor.bytes,), dtype=torch.uint8)


def _skeleton(
    source: ModelSource,
    model: TensorTree,
    compute: torch.dtype,
    why: str,
    no_split: frozenset[str],
) -> Skeleton:
    rows = _stated(source, "vocab_size")
    words = [m for m in model.modules() if rows is not None and _has_rows(m, rows)]
    # [not children] a module that is set plainly would be one, under a second name.
    model.__dict__["_devplan_embedding"] = words[0] if words else None
    model.__dict__["_devplan_head"] = words[-1] if len(words) > 1 else None
    return Skeleton(
        model=model,
        config=None,
        class_name=source.class_name or "Module",
        dtype=compute,
        no_split=no_split,
        max_tokens=_stated(source, "max_position_embeddings"),
        notes=(
            f"planned from the names and shapes of the tensors, nothing was run (DP901): {why}",
        ),
        executable=False,
    )


def _stated(source: ModelSource, key: str) -> int | None:
    """A number that the configuration states, itself or in its text config."""
    config = source.config or {}
    parts = (config, config.get("text_config"))
    values = (part.get(key) for part in parts if isinstance(part, Mapping))
    return next((value for value in values if isinstance(value, int)), None)


def _has_rows(module: nn.Module, rows: int) -> bool:
    """Whether it is a table or a projection with so many rows."""
    weight = module._parameters.get("weight")
    return weight is not None and weight.ndim == 2 and weight.shape[0] == rows
