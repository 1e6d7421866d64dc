"""bitsandbytes: 8-bit (LLM.int8) and 4-bit (NF4, FP4) linears.

8 bit: weight int8, and ``SCB``, one float32 scale per output row.

4 bit: two weights a byte; ``absmax``, one float32 scale per block of 64 weights (the block size
of ``Linear4bit``); the code table of 16 float32 values.  With double quantization the scales are
quantized in turn: one byte each, one float32 per 256 of them, a table of 256 float32 values and a
float32 offset.  ``bnb_4bit_quant_storage`` changes the dtype of the packed tensor, not its
bytes.

Measured with bitsandbytes 0.50.2 on its CPU backend (the numbers are in the tests); shapes as in
https://github.com/bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/functional.py
(``quantize_4bit``) and ``nn/modules.py`` (``Int8Params``, ``Params4bit``).

What is converted (``replace_with_bnb_linear`` of transformers 5.23): modules whose type is exactly
``nn.Linear``, and ``Conv1D``.  Fused experts are neither, so they stay in the model's dtype, with
one exception: the experts of Llama 4 become linears when the checkpoint is quantized already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from devplan.profile.quantization.linears import (
    FusedWeight,
    Linear,
    is_fused_experts,
    subclass_reason,
)
from devplan.profile.quantization.sizes import NOT_LINEAR, Answer, Ledger, Pieces, QuantizedSizes
from devplan.profile.quantization.skips import Skips, listed_skips
from devplan.profile.tree import NamedModules

PiecesOf = Callable[[Linear], Pieces]

_FLOAT32 = 4
_BLOCK = 64
_NESTED_BLOCK = 256
_CODE_BYTES = 16 * _FLOAT32
_NESTED_CODE_BYTES = 256 * _FLOAT32


def sizes_8bit(
    model: nn.Module, modules: NamedModules, config: Mapping[str, Any], dtype: torch.dtype
) -> QuantizedSizes:
    """Sizes under ``load_in_8bit``."""
    ledger = Ledger("bitsandbytes_8bit")
    if config.get("llm_int8_has_fp16_weight"):
        ledger.notes.append("llm_int8_has_fp16_weight keeps the weights in 16 bits")
        return ledger.close()
    _convert(ledger, model, modules, config, dtype, pieces_8bit)
    return ledger.close()


def sizes_4bit(
    model: nn.Module, modules: NamedModules, config: Mapping[str, Any], dtype: torch.dtype
) -> QuantizedSizes:
    """Sizes under ``load_in_4bit``."""
    ledger = Ledger("bitsandbytes_4bit")
    nested = config.get("bnb_4bit_use_double_quant")
    _convert(ledger, model, modules, config, dtype, pieces_4bit_nested if nested else pieces_4bit)
    return ledger.close()


@lru_cache(maxsize=4096)
def pieces_8bit(linear: Linear) -> Pieces:
    """Pieces of `linear.count` equal linears in 8 bits."""
    return {
        "weight (int8)": linear.numel,
        "SCB (float32 per row)": linear.count * linear.out_features * _FLOAT32,
    }


@lru_cache(maxsize=4096)
def pieces_4bit(linear: Linear) -> Pieces:
    """Pieces of `linear.count` equal linears in 4 bits."""
    numel = linear.out_features * linear.in_features
    return {
        "weight (packed)": linear.count * math.ceil(numel / 2),
        "absmax (float32 per block)": linear.count * math.ceil(numel / _BLOCK) * _FLOAT32,
        "code table": linear.count * _CODE_BYTES,
    }


@lru_cache(maxsize=4096)
def pieces_4bit_nested(linear: Linear) -> Pieces:
    """Pieces of `linear.count` equal linears in 4 bits with double quantization."""
    numel = linear.out_features * linear.in_features
    blocks = math.ceil(numel / _BLOCK)
    nested_blocks = math.ceil(blocks / _NESTED_BLOCK)
    return {
        "weight (packed)": linear.count * math.ceil(numel / 2),
        "absmax (uint8 per block)": linear.count * blocks,
        "nested absmax (float32)": linear.count * nested_blocks * _FLOAT32,
        "offset": linear.count * _FLOAT32,
        "code table": linear.count * _CODE_BYTES,
        "nested code table": linear.count * _NESTED_CODE_BYTES,
    }


def _convert(
    ledger: Ledger,
    model: nn.Module,
    modules: NamedModules,
    config: Mapping[str, Any],
    dtype: torch.dtype,
    pieces: PiecesOf,
) -> None:
    skips = Skips(listed_skips(model, modules, config.get("llm_int8_skip_modules")))
    made_linear = _experts_made_linear(model)
    classes = {name: type(module).__name__ for name, module in modules if is_fused_experts(module)}

    def linear(name: str, module: nn.Module, shape: Linear) -> Answer:
        reason = skips.reason(name)
        if reason is None and isinstance(module, nn.Linear) and type(module) is not nn.Linear:
            reason = subclass_reason(module)
        return reason or pieces(shape)

    def experts(fused: FusedWeight) -> Answer:
        is_converted = classes[fused.module] in made_linear and not skips.reason(fused.module)
        return pieces(fused.linear) if is_converted else NOT_LINEAR

    ledger.convert_linears(modules, linear, kind=nn.Module)
    ledger.convert_experts(modules, experts)
    ledger.note_experts_left("bitsandbytes", modules, dtype)


def _experts_made_linear(model: nn.Module) -> frozenset[str]:
    """Classes of fused experts that transformers turns into linears before it loads the model.

    ``HfQuantizer._convert_model_for_quantization``, only for checkpoints that are quantized
    already.
    """
    config = getattr(model, "config", None)
    if getattr(config, "quantization_config", None) is None:
        return frozenset()
    try:
        from transformers.quantizers.base import MODULES_TO_PATCH_FOR_QUANTIZATION as patched
    except ImportError:
        return frozenset()
    return frozenset(
        name
        for name, entry in patched.items()
        if any(getattr(m, "value", m) == "bitsandbytes" for m in entry["quantization_methods"])
    )
