"""The forms in which a model can be loaded: as it is stored, or quantized by bitsandbytes.

Weights of 8 and 4 bit are counted, not made: their sizes follow from the method
(``devplan.profile.quantization``), everything else from the model as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from devplan.core import BlockGraph, dtype_name
from devplan.models import ModelSource, Skeleton
from devplan.profile.graph import build_graph
from devplan.profile.model import Profile
from devplan.profile.profiling import measure_weights

QUANTIZED_BITS = (8, 4)


def can_be_quantized(profile: Profile, source: ModelSource) -> bool:
    """Whether ``from_pretrained`` quantizes the model while it loads it."""
    has_from_pretrained = source.library == "transformers" and source.origin != "factory"
    return profile.weights.quantization is None and has_from_pretrained


def how_to_load(bits: int) -> str:
    """The option of ``from_pretrained``, as Python."""
    return f"BitsAndBytesConfig(load_in_{bits}bit=True)"


def quantization_config(bits: int) -> dict[str, Any]:
    """The same as it would stand in ``config.json``."""
    return {"quant_method": "bitsandbytes", f"load_in_{bits}bit": True}


@dataclass(frozen=True, kw_only=True, eq=False)
class Precision:
    """One form of the model."""

    name: str
    """``bfloat16``, ``8 bit``, or what the checkpoint's quantization is called."""
    load: str
    """How ``from_pretrained`` is asked for it; empty where it is what is stored."""
    source: ModelSource
    profile: Profile

    @property
    def graph(self) -> BlockGraph:
        return build_graph(self.profile)

    @property
    def weight_bytes(self) -> int:
        return sum(block.weight_bytes for block in self.profile.weights.blocks.values())


def precisions(skeleton: Skeleton, source: ModelSource, profile: Profile) -> tuple[Precision, ...]:
    """The model as it is stored, then in 8 and 4 bit where it can be quantized."""
    stored = Precision(
        name=profile.weights.quantization or dtype_name(skeleton.dtype),
        load="",
        source=source,
        profile=profile,
    )
    if not can_be_quantized(profile, source):
        return (stored,)
    return (stored, *(_quantized(bits, skeleton, source, profile) for bits in QUANTIZED_BITS))


def _quantized(bits: int, skeleton: Skeleton, source: ModelSource, profile: Profile) -> Precision:
    config: Mapping[str, Any] = {
        **(source.config or {}),
        "quantization_config": quantization_config(bits),
    }
    return Precision(
        name=f"{bits} bit",
        load=f"quantization_config={how_to_load(bits)}",
        source=replace(source, config=config, stored=None),
        profile=quantized_profile(profile, skeleton, bits),
    )


def quantized_profile(profile: Profile, skeleton: Skeleton, bits: int) -> Profile:
    """The profile with weights of 8 or 4 bit."""
    weights = measure_weights(
        skeleton, profile.sites, quantization_config=quantization_config(bits)
    )
    return replace(profile, weights=weights)
