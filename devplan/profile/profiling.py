"""The profile of a skeleton: exact bytes of every block, and what virtual runs of it showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from devplan.core import Workload, parse_dtype
from devplan.models import BlockSite, ModelSource, Skeleton, StoredTensor, partition
from devplan.profile.model import Profile, RunProfile, WeightProfile
from devplan.profile.parameters import (
    component_sizes,
    loading_bytes,
    parameter_bytes,
    quantizing_bytes,
)
from devplan.profile.quantization import config_on_cards, unpacked_note
from devplan.profile.runs import measure_run
from devplan.profile.weights import measure_blocks
from devplan.virtual import OneCard, entered_part

__all__ = [
    "Profile",
    "RunProfile",
    "WeightProfile",
    "measure_weights",
    "profile_skeleton",
    "sizes_in_memory",
]


PACKED_NOTE = (
    "quantized weights are counted as they are stored (--packed), and the installed transformers "
    "unpacks them on these GPUs: load them with an engine that keeps them packed"
)


def profile_skeleton(
    skeleton: Skeleton,
    source: ModelSource,
    workload: Workload,
    *,
    least_capability: tuple[int, int] | None = None,
    packed: bool = False,
    card: OneCard | None = None,
) -> Profile:
    """Everything that the planner needs to know of a model.

    Parameters
    ----------
    skeleton
        The model on the meta device.
    source
        Says how the checkpoint is quantized, and what it stores.
    workload
        Its context and cache dtype decide what the virtual runs look at.
    least_capability
        Smallest compute capability among the cards, where it is known: it decides whether some
        quantized weights stay packed.
    packed
        Count quantized weights as they are stored, also where transformers unpacks them.
    card
        Where the model is run, and left for further runs; it does not lie there yet.
    """
    sites = partition(skeleton.model, skeleton.no_split)
    weights = weights_on_cards(skeleton, source, sites, least_capability, packed=packed)
    kv_dtype = parse_dtype(workload.kv_dtype) if workload.kv_dtype else None
    entered = entered_part(skeleton.model)
    name, entry = entered or (None, skeleton.model)
    return Profile(
        sites=sites,
        weights=weights,
        run=measure_run(
            skeleton,
            sites,
            workload,
            kv_element_bytes=kv_dtype.itemsize if kv_dtype else None,
            card=card,
        ),
        embedding=block_of(sites, _embeddings(entry, "get_input_embeddings")),
        head=block_of(sites, _embeddings(entry, "get_output_embeddings")),
        components=tuple(skeleton.components),
        home=getattr(skeleton.model, "home", None) if skeleton.components else None,
        entered=name,
    )


def weights_on_cards(
    skeleton: Skeleton,
    source: ModelSource,
    sites: tuple[BlockSite, ...],
    least_capability: tuple[int, int] | None = None,
    *,
    packed: bool = False,
) -> WeightProfile:
    """Bytes of every block, with quantized weights as they lie on cards of that capability."""
    if skeleton.components:
        return _measure_components(skeleton, sites, least_capability, packed)
    stored_as = (source.config or {}).get("quantization_config")
    runs_as = config_on_cards(stored_as, least_capability)
    is_unpacked = runs_as is not stored_as
    weights = measure_weights(
        skeleton,
        sites,
        quantization_config=stored_as if packed else runs_as,
        stored=source.stored,
        packed=packed,
        quantizes=source.quantize is not None,
    )
    if is_unpacked and packed:
        return replace(weights, packed=True, notes=(PACKED_NOTE,))
    if is_unpacked:
        return replace(weights, notes=(unpacked_note(stored_as, least_capability),))
    return weights


def sizes_in_memory(
    skeleton: Skeleton,
    source: ModelSource,
    least_capability: tuple[int, int] | None = None,
    *,
    packed: bool = False,
) -> Mapping[str, int]:
    """Parameter -> bytes, of those that do not take elements times dtype."""
    if skeleton.components:
        found = component_sizes(skeleton, least_capability=least_capability, packed=packed)
        return found.exceptions
    stored_as = (source.config or {}).get("quantization_config")
    sizes = parameter_bytes(
        skeleton.model,
        dtype=skeleton.dtype,
        quantization_config=stored_as if packed else config_on_cards(stored_as, least_capability),
        stored=source.stored,
    )
    return {**sizes.exceptions, **sizes.packed} if packed else sizes.exceptions


def _measure_components(
    skeleton: Skeleton,
    sites: tuple[BlockSite, ...],
    least_capability: tuple[int, int] | None = None,
    packed: bool = False,
) -> WeightProfile:
    """The same of a pipeline, whose models have dtypes and quantizations of their own."""
    sizes = component_sizes(skeleton, least_capability=least_capability, packed=packed)
    measured = measure_blocks(sites, sizes.exceptions, sizes.loading)
    return WeightProfile(
        blocks=measured.blocks,
        tied=measured.tied,
        num_parameters=measured.num_parameters,
        quantization=sizes.quantization,
        packed=packed and sizes.is_unpacked,
        notes=(PACKED_NOTE,) if packed and sizes.is_unpacked else tuple(sizes.notes),
    )


def measure_weights(
    skeleton: Skeleton,
    sites: tuple[BlockSite, ...],
    *,
    quantization_config: Mapping[str, Any] | None = None,
    stored: Mapping[str, StoredTensor] | None = None,
    packed: bool = False,
    quantizes: bool = False,
) -> WeightProfile:
    """Bytes of parameters and buffers of every block, as they will lie in memory.

    With `packed`, quantized weights count as they are stored even where transformers unpacks them.
    With `quantizes`, they are stored in the model's dtype and quantized while they are loaded.
    """
    if skeleton.components:
        return _measure_components(skeleton, sites, packed=packed)
    sizes = parameter_bytes(
        skeleton.model,
        dtype=skeleton.dtype,
        quantization_config=quantization_config,
        stored=stored,
    )
    exceptions = {**sizes.exceptions, **sizes.packed} if packed else sizes.exceptions
    loading = loading_bytes(
        skeleton.model, sizes=exceptions, packed=sizes.packed, stored=stored or ()
    )
    if quantizes and quantization_config is not None:
        wide = quantizing_bytes(skeleton.model, skeleton.dtype, sizes, quantization_config)
        loading = {name: max(loading.get(name, 0), wide.get(name, 0)) for name in loading | wide}
    measured = measure_blocks(sites, exceptions, loading)
    is_packed = packed and not sizes.stays_packed
    return WeightProfile(
        blocks=measured.blocks,
        tied=measured.tied,
        num_parameters=measured.num_parameters,
        quantization=sizes.quantization,
        packed=is_packed,
        notes=(PACKED_NOTE,) if is_packed else sizes.notes,
    )


def block_of(sites: tuple[BlockSite, ...], module: nn.Module | None) -> str | None:
    """The block that a module is, or lies in; None where it is in none or there is no module."""
    if module is None:
        return None
    for site in sites:
        if site.module is module:
            return site.name
    for site in sites:
        if site.module is not None and any(inner is module for inner in site.module.modules()):
            return site.name
    return None


def _embeddings(model: nn.Module, getter: str) -> nn.Module | None:
    """What the class says its embedding is; many classes raise where they have none."""
    try:
        found = getattr(model, getter)()
    except (AttributeError, NotImplementedError, TypeError, KeyError):
        return None
    return found if isinstance(found, nn.Module) else None
