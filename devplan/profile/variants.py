"""The forms in which a model can be loaded: as it is stored, or quantized by bitsandbytes.

Weights of 8 and 4 bit are counted, not made: their sizes follow from the method
(``devplan.profile.quantization``), everything else from the model as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from devplan.models import ModelSource, Skeleton
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
    """The option as an entry of ``config.json``."""
    return {"quant_method": "bitsandbytes", f"load_in_{bits}bit": True}


def quantized_source(source: ModelSource, bits: int) -> ModelSource:
    """The source with a config that asks for weights of 8 or 4 bit."""
    config = {**(source.config or {}), "quantization_config": quantization_config(bits)}
    return replace(source, config=config, stored=None)


def quantized_profile(profile: Profile, skeleton: Skeleton, bits: int) -> Profile:
    """The profile with weights of 8 or 4 bit."""
    weights = measure_weights(
        skeleton, profile.sites, quantization_config=quantization_config(bits)
    )
    return replace(profile, weights=weights)
