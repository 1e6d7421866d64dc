"""MXFP4: expert weights of four bits, two a byte, with one shared exponent byte per 32 of them.

For a fused parameter of gpt-oss: ``blocks`` uint8, half the elements; ``scales`` uint8, one per 32
elements.  Nothing else is packed: attention, router, embeddings and biases stay.  The biases of
the experts are stored in bfloat16 and lie in float32, as ``Mxfp4GptOssExperts`` declares them.

What is converted (``replace_with_mxfp4_linear`` of transformers 5.23): the experts of every
``GptOssMLP`` that the config's ``modules_to_not_convert`` does not name.

Checked: stored totals of gpt-oss-20b (13,761,264,768 bytes) and 120b (65,248,815,744), and the
shapes and dtypes of ``Mxfp4GptOssExperts``.

Limits: the kernel may pad the packed weights to its own layout, depending on the card.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from devplan.profile.quantization.linears import FusedWeight, Linear
from devplan.profile.quantization.sizes import Answer, Ledger, Pieces, QuantizedSizes
from devplan.profile.quantization.skips import Skips, listed_skips
from devplan.profile.tree import NamedModules

_GROUP = 32
_FLOAT32 = 4


def sizes(
    model: nn.Module, modules: NamedModules, config: Mapping[str, Any], dtype: torch.dtype
) -> QuantizedSizes:
    """Sizes under ``quant_method: mxfp4``."""
    ledger = Ledger("mxfp4")
    if config.get("dequantize"):
        ledger.notes.append("dequantize: the weights are unpacked while they are loaded")
        return ledger.close()
    skips = Skips(listed_skips(model, modules, config.get("modules_to_not_convert")))
    packable = _packable_experts(modules)

    def linear(name: str, _: nn.Module, shape: Linear) -> Answer:
        return skips.reason(name) or "MXFP4 packs experts only"

    def experts(fused: FusedWeight) -> Answer:
        reason = skips.reason(fused.module)
        if reason is None and fused.module not in packable:
            reason = "transformers packs the experts of gpt-oss only"
        if reason is None and fused.bias_features and dtype.itemsize != _FLOAT32:
            ledger.in_memory[f"{fused.parameter}_bias"] = fused.bias_features * _FLOAT32
        return reason or pieces(fused.linear)

    ledger.convert_experts(modules, experts)
    ledger.convert_linears(modules, linear)
    ledger.notes.append(
        "MXFP4 stays packed where Triton, the kernels package and a GPU of compute capability "
        "7.5 or above are there; elsewhere transformers unpacks it to bfloat16"
    )
    return ledger.close()


@lru_cache(maxsize=256)
def pieces(linear: Linear) -> Pieces:
    """Pieces of `linear.count` equal linears."""
    return {"blocks (uint8)": linear.numel // 2, "scales (uint8)": linear.numel // _GROUP}


def _packable_experts(modules: NamedModules) -> frozenset[str]:
    try:
        from transformers.models.gpt_oss.modeling_gpt_oss import GptOssMLP
    except ImportError:
        return frozenset()
    return frozenset(f"{name}.experts" for name, module in modules if isinstance(module, GptOssMLP))
