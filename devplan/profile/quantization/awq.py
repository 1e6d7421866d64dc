"""AWQ: 4-bit weights packed eight to an int32, with zero points, in groups of inputs.

For a linear ``[out, in]`` with groups of ``group_size`` inputs (-1: one group)::

    qweight  int32    [in, out / 8]        qzeros  int32  [groups, out / 8]
    scales   float16  [groups, out]

A bias lies in float16.  Source of the layout: ``WQLinear_GEMM`` in
https://github.com/casper-hansen/AutoAWQ/blob/main/awq/modules/linear/gemm.py ; the other formats
(GEMV and its kin) order the same bits differently.

What is converted (``AwqQuantizer`` and ``replace_with_awq_linear`` of transformers 5.23): every
``nn.Linear`` but the default skips and the config's ``modules_to_not_convert``.  transformers
loads the rest in float16 where bfloat16 was asked for: the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache, partial
from typing import Any

import torch
from torch import nn

from devplan.core import InputError
from devplan.profile.checkpoint import conversions, stored_projections
from devplan.profile.quantization.gptq import EXPERTS_NOTE, float16_bias
from devplan.profile.quantization.linears import FusedWeight, Linear
from devplan.profile.quantization.sizes import Answer, Ledger, Pieces, QuantizedSizes
from devplan.profile.quantization.skips import Skips, listed_and_default_skips
from devplan.profile.tree import NamedModules

_INT32 = 4
_FLOAT16 = 2


def sizes(
    model: nn.Module, modules: NamedModules, config: Mapping[str, Any], dtype: torch.dtype
) -> QuantizedSizes:
    """Sizes under ``quant_method: awq``."""
    ledger = Ledger("awq")
    bits = config.get("bits", config.get("w_bit", 4))
    group_size = config.get("group_size", config.get("q_group_size", 128))
    if bits not in (2, 4, 8):
        raise InputError(f"AWQ packs 4 bits, the quantization config says {bits!r}")
    if group_size is None:
        raise InputError(
            "AWQ needs a group_size above 0 or -1, and the quantization config says null"
        )
    skips = Skips(listed_and_default_skips(model, modules, config.get("modules_to_not_convert")))
    rules = cache(partial(conversions, model))

    def linear(name: str, _: nn.Module, shape: Linear) -> Answer:
        return skips.reason(name) or pieces(shape, bits, group_size)

    def experts(fused: FusedWeight) -> Answer:
        names = stored_projections(rules(), fused.parameter, fused.projections)
        reasons = [skips.reason(name) for alternative in names for name in alternative]
        reason = next((reason for reason in reasons if reason), None)
        if reason is None:
            ledger.notes[:] = [EXPERTS_NOTE.format(method="AWQ")]
        return reason or pieces(fused.linear, bits, group_size)

    ledger.convert_linears(
        modules, linear, bias=lambda name, shape: ledger.add(name, float16_bias(shape.out_features))
    )
    ledger.convert_experts(modules, experts)
    return ledger.close()


@lru_cache(maxsize=4096)
def pieces(linear: Linear, bits: int, group_size: int) -> Pieces:
    """Pieces of `linear.count` equal linears."""
    out_features, in_features, count = linear
    groups = 1 if group_size == -1 else in_features // group_size
    packed = out_features // (32 // bits)
    return {
        "qweight (int32)": count * _INT32 * in_features * packed,
        "qzeros (int32)": count * _INT32 * groups * packed,
        "scales (float16)": count * _FLOAT16 * groups * out_features,
    }
