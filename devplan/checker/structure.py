"""From a skeleton to what the rules know of a model.

Every name counts, aliases too: T5's ``shared`` is also ``encoder.embed_tokens``, and a map may use
either.  Two parameters are *tied* when different modules hold the same tensor; a module that is
reached by two names holds its own tensor once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import nn

from devplan.core import BlockGraph, Workload, joined
from devplan.models import ModelSource, Skeleton
from devplan.profile import build_graph, profile_skeleton, sizes_in_memory
from devplan.rules import Structure, TensorFact
from devplan.virtual import loads_without_hooks


def build_structure(
    skeleton: Skeleton,
    source: ModelSource,
    workload: Workload,
    *,
    least_capability: tuple[int, int] | None = None,
    packed: bool = False,
) -> Structure:
    """Everything that the rules ask of a model's structure.

    Parameters
    ----------
    skeleton
        The model on the meta device.
    source
        Says how the checkpoint is quantized.
    workload
        Its context and cache dtype decide what the cache is measured at.
    least_capability, packed
        How quantized weights lie in memory, as for ``profile_skeleton``.
    """
    lie = {"least_capability": least_capability, "packed": packed}
    profile = profile_skeleton(skeleton, source, workload, **lie)
    notes = (*source.notes, *skeleton.notes, *profile.notes)
    structure = structure_of(skeleton, source, build_graph(profile), notes, **lie)
    return replace(structure, packed=profile.weights.packed)


def structure_of(
    skeleton: Skeleton,
    source: ModelSource,
    graph: BlockGraph,
    notes: tuple[str, ...] = (),
    *,
    least_capability: tuple[int, int] | None = None,
    packed: bool = False,
) -> Structure:
    """The same, where the blocks are known already."""
    lie_as = sizes_in_memory(skeleton, source, least_capability, packed=packed)
    structure = structure_as_it_lies(skeleton.model, graph, skeleton.no_split, lie_as)
    return replace(
        structure,
        class_name=skeleton.class_name,
        notes=notes,
        by_tensors_only=not skeleton.executable,
        unhooked_on_one_device=loads_without_hooks(skeleton.model),
    )


def structure_as_it_lies(
    model: nn.Module,
    graph: BlockGraph,
    no_split: frozenset[str],
    sizes: Mapping[str, int] | None = None,
) -> Structure:
    """The same of any model; `sizes` are bytes of tensors that will not lie as they do now."""
    named = dict(_named_modules(model, ""))
    tensors, tied = _tensors(named, sizes or {})
    return Structure(
        class_name=type(model).__name__,
        modules={name: type(module).__name__ for name, module in named.items()},
        tensors=tensors,
        tied=tied,
        no_split=no_split,
        graph=graph,
    )


def _named_modules(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Every module under every one of its names."""
    yield name, module
    for child_name, child in module._modules.items():
        if child is not None:
            yield from _named_modules(child, joined(name, child_name))


def _tensors(
    modules: dict[str, nn.Module], sizes: Mapping[str, int]
) -> tuple[dict[str, TensorFact], tuple[tuple[str, ...], ...]]:
    facts: dict[str, TensorFact] = {}
    first_names: dict[int, str] = {}
    holders: dict[int, dict[int, str]] = {}
    for owner, module in modules.items():
        for short_name, tensor, is_parameter in _own_tensors(module):
            name = joined(owner, short_name)
            first = first_names.setdefault(id(tensor), name)
            holders.setdefault(id(tensor), {}).setdefault(id(module), name)
            facts[name] = TensorFact(
                name=name,
                owner=owner,
                num_bytes=sizes.get(first, tensor.numel() * tensor.element_size()),
                is_parameter=is_parameter,
                persistent=short_name not in module._non_persistent_buffers_set,
                first_name=first,
            )
    tied = (tuple(names.values()) for names in holders.values() if len(names) > 1)
    return facts, tuple(tied)


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor, bool]]:
    for name, parameter in module._parameters.items():
        if parameter is not None:
            yield name, parameter, True
    for name, buffer in module._buffers.items():
        if buffer is not None:
            yield name, buffer, False
