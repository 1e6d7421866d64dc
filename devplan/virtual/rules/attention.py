"""Scaled dot product attention, the function and all of its kernels.

The function compares query, key and value itself.  Which kernel then runs depends on GPU, dtype
and mask; with a mask it is, on current GPUs, the memory-efficient one, whose wrapper finds the
mask on the wrong device.  (The math fallback would word it as the addition of the mask does.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from devplan.virtual.rules.checked import checked_as
from devplan.virtual.rules.rule import Call, Clash, clash_at, gathering_place
from devplan.virtual.rules.worded import Worded

_OPERANDS = Worded(
    arguments=("query", "key", "value"),
    text=(
        "Expected query, key, and value to have the same device type, but got query.device: "
        "{query} key.device: {key} and value.device: {value} instead."
    ),
    source="aten/src/ATen/native/transformers/attention.cpp validate_sdpa_input",
)
_MASK = checked_as(
    "___scaled_dot_product_efficient_attention",
    query="query",
    key="key",
    value="value",
    attn_mask="attn_bias",
    attn_bias="attn_bias",
)


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Query, key, value and mask on one device."""

    name: str = "attention"
    source: str = (
        "aten/src/ATen/native/transformers/attention.cpp validate_sdpa_input; "
        "aten/src/ATen/native/transformers/cuda/sdp_utils.cpp"
    )

    def weigh(self, call: Call) -> Clash | None:
        clash = _OPERANDS.weigh(call) or _MASK.weigh(call)
        if clash is None:
            return None
        return clash_at(clash.message, gathering_place(call.seen), call.seen)

    def home(self, call: Call) -> torch.device:
        return call.of("query")[0].device
