"""What the cards make of a quantized checkpoint: packed where they can compute on it, else not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
        f"transformers unpacks {method} weights to the compute dtype on a card of compute "
        f"capability {found}: they stay packed from {needed} on"
    )
