"""The forms in which a model can be loaded: as it is stored, or quantized while it is loaded.

Weights of 8 and 4 bit are counted, not made: their sizes follow from the method
(``devplan.profile.quantization``), everything else from the model as it is.
"""

from __future__ import annotations

from dataclasses import replace

from devplan.core import InputError, quantize_config
from devplan.models import ModelSource, Skeleton
from devplan.profile.model import Profile
from devplan.profile.profiling import measure_weights
from devplan.profile.quantization import method_of, quantizes_while_loading

QUANTIZED_BITS = (8, 4)


def can_be_quantized(profile: Profile, source: ModelSource) -> bool:
    """Whether ``from_pretrained`` quantizes the model while it loads it."""
    has_from_pretrained = source.library == "transformers" and source.origin != "factory"
    return profile.weights.quantization is None and has_from_pretrained


def how_to_load(bits: int) -> str:
    """The option of ``from_pretrained``, as Python."""
    return f"BitsAndBytesConfig(load_in_{bits}bit=True)"


def quantize_word(bits: int) -> str:
    """The same as ``--quantize`` takes it."""
    return f"{bits}bit"


def quantized_source(source: ModelSource, quantize: str) -> ModelSource:
    """The source as transformers loads it when told to quantize.

    Parameters
    ----------
    source
        Of a checkpoint that is not quantized.
    quantize
        A text of `devplan.core.quantize.read_quantize`.

    Raises
    ------
    InputError
        When transformers does not quantize this model while loading, or not by this method.
    """
    config = quantize_config(quantize)
    _refuse_unquantizable(source)
    quantizes_while_loading(config)
    return replace(
        source,
        config={**(source.config or {}), "quantization_config": config},
        quantize=quantize,
    )


def _refuse_unquantizable(source: ModelSource) -> None:
    where = "leave --quantize out"
    stored_as = (source.config or {}).get("quantization_config")
    if source.quantize is not None:
        raise InputError(f"{source.id} is quantized already, to {source.quantize}; {where}")
    if stored_as:
        raise InputError(
            f"{source.id} is quantized already, by {method_of(stored_as)}; {where}, or name the "
            "checkpoint that it was made of"
        )
    if source.components or source.library != "transformers":
        raise InputError(
            f"{source.id} is of {source.library}, and devplan plans quantizing for models of "
            f"transformers only; {where}"
        )
    if source.origin == "factory":
        raise InputError(
            f"{source.id} is a function of yours, and only from_pretrained quantizes; {where}"
        )


def quantized_profile(profile: Profile, skeleton: Skeleton, source: ModelSource) -> Profile:
    """The profile with the weights of a source that `quantized_source` gave."""
    weights = measure_weights(
        skeleton,
        profile.sites,
        quantization_config=(source.config or {})["quantization_config"],
        stored=source.stored,
        quantizes=source.quantize is not None,
    )
    return replace(profile, weights=weights)
