"""Bytes of a quantized model's parameters, by method.

One file per method; ``METHODS`` is the one table from ``quant_method`` to the function that knows
it.  To add a method: write its file (what its pieces are, what it converts, the source of both),
enter it in the table, test its pieces against numbers measured with the real package, and add its
row to ``docs/quantization.md`` (a test says so when it is missing).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from devplan.core import InputError, nearest
from devplan.profile.quantization import (
    awq,
    bitsandbytes,
    compressed_tensors,
    fp8,
    gptq,
    mxfp4,
    per_row,
)
from devplan.profile.quantization.fields import require_fields
from devplan.profile.quantization.sizes import QuantizedSizes
from devplan.profile.tree import NamedModules, named_modules

__all__ = [
    "METHODS",
    "QuantizedSizes",
    "method_of",
    "quantization_config_of",
    "quantized_bytes",
    "quantizes_while_loading",
]

SizesOf = Callable[[nn.Module, NamedModules, Mapping[str, Any], torch.dtype], QuantizedSizes]

METHODS: Mapping[str, SizesOf] = {
    "awq": awq.sizes,
    "bitsandbytes_4bit": bitsandbytes.sizes_4bit,
    "bitsandbytes_8bit": bitsandbytes.sizes_8bit,
    "compressed-tensors": compressed_tensors.sizes,
    "eetq": per_row.eetq_sizes,
    "fbgemm_fp8": per_row.fbgemm_fp8_sizes,
    "fp8": fp8.sizes,
    "gptq": gptq.sizes,
    "mxfp4": mxfp4.sizes,
    "mxfp8": fp8.sizes,
    "quanto": per_row.quanto_sizes,
    "torchao": per_row.torchao_sizes,
}


def quantized_bytes(
    model: nn.Module,
    quantization_config: Mapping[str, Any],
    *,
    dtype: torch.dtype,
    modules: NamedModules | None = None,
) -> QuantizedSizes:
    """Bytes of the parameters that a quantization config converts.

    Parameters
    ----------
    model
        Skeleton on the meta device, not quantized.
    quantization_config
        As in ``config.json``, or as given to ``from_pretrained``: a mapping, with ``quant_method``
        or bitsandbytes' ``load_in_8bit`` / ``load_in_4bit``.
    dtype
        Dtype of the model: what is not converted lies in it.
    modules
        ``devplan.profile.tree.named_modules(model)`` where the caller has it already.

    Raises
    ------
    InputError
        When the method is not known, or the config lacks or contradicts what decides the bytes.
    """
    method = method_of(quantization_config)
    if method not in METHODS:
        raise InputError(
            f"quantization method {method!r} is not known to devplan{nearest(method, METHODS)}; "
            f"known are {', '.join(METHODS)}, and the sizes of any other are taken from the "
            "safetensors headers when the checkpoint is a local folder or a hub id"
        )
    require_fields(quantization_config)
    return METHODS[method](model, modules or named_modules(model), quantization_config, dtype)


WHILE_LOADING = frozenset(
    {
        *("bitsandbytes_4bit", "bitsandbytes_8bit", "eetq", "fbgemm_fp8", "fp8", "quanto"),
        "torchao",
    }
)
"""Methods by which transformers quantizes a checkpoint in floats while it loads it, of those that
need no data for it (``requires_calibration`` of its quantizers)."""


def quantizes_while_loading(quantization_config: Mapping[str, Any]) -> str:
    """The method of a config, which is one that quantizes while loading.

    Raises
    ------
    InputError
        When it is not, with those that are.
    """
    method = method_of(quantization_config)
    if method not in WHILE_LOADING:
        known = method in METHODS
        why = "needs a checkpoint that is quantized already" if known else "is not known to devplan"
        raise InputError(
            f"quantization method {method!r} {why}; methods that quantize while loading are "
            f"{', '.join(sorted(WHILE_LOADING))}"
        )
    require_fields(quantization_config)
    return method


def method_of(quantization_config: Mapping[str, Any]) -> str:
    """Name of the method in ``METHODS``'s terms.

    Raises
    ------
    InputError
        When the config names none.
    """
    for bits in ("4bit", "8bit"):
        if quantization_config.get(f"load_in_{bits}"):
            return f"bitsandbytes_{bits}"
    method = quantization_config.get("quant_method")
    if method is None:
        raise InputError(
            "the quantization config names no quant_method; it holds "
            f"{', '.join(map(str, quantization_config)) or 'nothing'}"
        )
    method = getattr(method, "value", method)
    if not isinstance(method, str):
        raise InputError(
            f"quant_method of the quantization config is {str(method)[:60]}; it must be text, such "
            'as "gptq": correct it in config.json'
        )
    if method == "bitsandbytes":
        raise InputError(
            "the quantization config of bitsandbytes says neither load_in_8bit nor load_in_4bit"
        )
    return method


def quantization_config_of(config: Any) -> Mapping[str, Any] | None:
    """The quantization config in a model's configuration, or None where there is none.

    Looked for where transformers looks (``get_hf_quantizer``): in the configuration, then in that
    of its text model.

    Parameters
    ----------
    config
        Configuration object or mapping.
    """
    found = _attribute(config, "quantization_config")
    if found is None:
        found = _attribute(_text_config(config), "quantization_config")
    if found is None or isinstance(found, Mapping):
        return found
    return found.to_dict()


def _text_config(config: Any) -> Any:
    getter = getattr(config, "get_text_config", None)
    return getter(decoder=True) if getter is not None else _attribute(config, "text_config")


def _attribute(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)


# ------------------------------------------------------------------------------------- on the cards


PACKED_FROM: Mapping[str, tuple[int, int]] = {"fp8": (8, 9)}
"""Method -> smallest compute capability on which transformers leaves the weights packed; below, it
unpacks them while loading (``validate_environment`` in transformers'
quantizers/quantizer_finegrained_fp8.py)."""


def config_on_cards(
    config: Mapping[str, Any] | None, least_capability: tuple[int, int] | None
) -> Mapping[str, Any] | None:
    """The quantization config as transformers changes it on such cards.

    Parameters
    ----------
    config
        Of the checkpoint; None where it is not quantized.
    least_capability
        The smallest compute capability among the cards; None where it is not known, and the
        weights are then taken to stay packed.
    """
    if config is None or least_capability is None:
        return config
    needed = PACKED_FROM.get(str(config.get("quant_method")))
    if needed is None or least_capability >= needed:
        return config
    return {**config, "dequantize": True}


def unpacked_note(config: Mapping[str, Any], least_capability: tuple[int, int]) -> str:
    """Why the weights of a quantized checkpoint do not stay packed."""
    method = str(config["quant_method"])
    needed, found = (".".join(map(str, pair)) for pair in (PACKED_FROM[method], least_capability))
    return (
        f"transformers unpacks {method} weights to the compute dtype on a GPU of compute "
        f"capability {found}: they stay packed from {needed} on"
    )
