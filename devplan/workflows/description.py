"""What devplan knows of a model of the catalogue: facts, and sizes of its weights by dtype."""

from __future__ import annotations

from dataclasses import dataclass

from devplan.catalog import CatalogModel
from devplan.core import InputError, dtype_name, quantize_config
from devplan.models import Skeleton, build_skeleton, partition, resolve_catalogue
from devplan.profile import (
    QUANTIZED_BITS,
    WeightProfile,
    measure_weights,
    quantize_word,
)

OTHER_DTYPES = ("float32", "bfloat16")
"""Beside the one that is stored."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Weights and buffers of a model in one form."""

    name: str
    """``bfloat16``, ``fp8``, ``8 bit``."""
    how: str
    """What the form is, or how ``from_pretrained`` is asked for it."""
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """An entry of the catalogue, and what its class says."""

    entry: CatalogModel
    executable: bool = False
    """Whether its code is here, so that it can be run virtually."""
    max_tokens: int | None = None
    sizes: tuple[Size, ...] = ()
    why_no_sizes: str = ""
    """Why nothing could be built; empty where it was."""


def summary_of(entry: CatalogModel) -> ModelSummary:
    """Build the class of an entry on the meta device and size it.

    An entry whose class the installed libraries do not have is known by its facts alone.
    """
    try:
        source = resolve_catalogue(entry)
        skeleton = build_skeleton(source)
    except InputError as error:
        return ModelSummary(entry=entry, why_no_sizes=str(error))
    return ModelSummary(
        entry=entry,
        executable=skeleton.executable,
        max_tokens=None if entry.library == "diffusers" else skeleton.max_tokens,
        sizes=(*_stored_sizes(entry, skeleton), *_other_sizes(entry, skeleton)),
    )


def _stored_sizes(entry: CatalogModel, skeleton: Skeleton) -> list[Size]:
    """As the checkpoint is loaded: packed, and as it lies in memory where that differs."""
    if entry.quantization_config is None:
        weights = _weights(skeleton)
        return [Size(name=dtype_name(skeleton.dtype), how="as stored", num_bytes=_total(weights))]
    packed, resident = (
        measure_weights(
            skeleton,
            partition(skeleton.model, skeleton.no_split),
            quantization_config=entry.quantization_config,
            packed=packed,
        )
        for packed in (True, False)
    )
    method = resident.quantization or ""
    if _total(packed) == _total(resident):
        return [Size(name=method, how="as stored", num_bytes=_total(packed))]
    return [
        Size(name=method, how="as stored (--packed)", num_bytes=_total(packed)),
        Size(name=method, how="as transformers loads it", num_bytes=_total(resident)),
    ]


def _other_sizes(entry: CatalogModel, skeleton: Skeleton) -> list[Size]:
    """In other dtypes, and in 8 and 4 bit where ``from_pretrained`` quantizes while it loads."""
    if entry.quantization_config is not None:
        return []
    source, stored = resolve_catalogue(entry), dtype_name(skeleton.dtype)
    sizes = [
        Size(
            name=dtype,
            how=f"--dtype {dtype}",
            num_bytes=_total(_weights(build_skeleton(source, dtype))),
        )
        for dtype in OTHER_DTYPES
        if dtype != stored
    ]
    if entry.library != "transformers":
        return sizes
    sites = partition(skeleton.model, skeleton.no_split)
    for bits in QUANTIZED_BITS:
        word = quantize_word(bits)
        weights = measure_weights(skeleton, sites, quantization_config=quantize_config(word))
        size = Size(name=f"{bits} bit", how=f"--quantize {word}", num_bytes=_total(weights))
        sizes.append(size)
    return sizes


def _weights(skeleton: Skeleton) -> WeightProfile:
    return measure_weights(skeleton, partition(skeleton.model, skeleton.no_split))


def _total(weights: WeightProfile) -> int:
    return sum(block.weight_bytes + block.buffer_bytes for block in weights.blocks.values())
