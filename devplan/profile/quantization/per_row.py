"""Methods that keep one byte a weight and scales per output row: eetq, fbgemm_fp8, quanto, torchao.

========== =============== ============================================ =====================
method     weight          scales of a linear ``[out, in]``              besides
========== =============== ============================================ =====================
eetq       int8            float16 ``[out]``                            bias in float16
fbgemm_fp8 float8          float32 ``[out]``                            scale bound, float32;
                                                                        bias in float32
quanto     int8, float8    model's dtype ``[out]``                      two scalar scales of
                                                                        activations
torchao    int8            float32 ``[out]`` and int8 zero point        see below
           float8          float32 ``[out]``
========== =============== ============================================ =====================

quanto in 4 and 2 bits packs rows ``8 / bits`` to one and keeps scale and shift per group of up to
128 inputs.  Of torchao, ``Int8WeightOnlyConfig``, ``Int8DynamicActivationInt8WeightConfig`` and
``Float8WeightOnlyConfig`` are known; others depend on kernels that are there on a GPU only.

All convert ``nn.Linear`` modules that the rules of ``skips`` do not name; fused experts stay in
the model's dtype, but for those of Llama 4 under fbgemm_fp8.  Sources: ``EetqLinear``,
``FbgemmFp8Linear`` and ``replace_with_quanto_layers`` in transformers 5.23; quanto and torchao
measured on a CPU with optimum-quanto 0.2.7 and torchao 0.18.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from devplan.core import InputError, nearest
from devplan.profile.quantization.linears import FusedWeight, Linear
from devplan.profile.quantization.sizes import NOT_LINEAR, Answer, Ledger, Pieces, QuantizedSizes
from devplan.profile.quantization.skips import Skips, listed_skips
from devplan.profile.tree import NamedModules

_FLOAT32 = 4
_FLOAT16 = 2
PiecesOf = Callable[[Linear], Pieces]


def eetq_sizes(
    model: nn.Module, modules: NamedModules, config: Mapping[str, Any], dtype: torch.dtype
) -> QuantizedSizes:
    """Sizes under ``quant_method: eetq``."""

    def pieces(linear: Linear) -> Pieces:
        scales = _FLOAT16 * linear.out_features
        return {"weight (int8)": linear.numel, "weight_scales (float16)": scales}

    ledger = Ledger("eetq")
    _convert(ledger, model, modules, config, dtype, pieces, bias_itemsize=_FLOAT16)
    return ledger.close()


def fbgemm_fp8_sizes(
    model: nn.Module, modules: NamedModules, config: Mapping[str, Any], dtype: torch.dtype
) -> QuantizedSizes:
    """Sizes under ``quant_method: fbgemm_fp8``."""

    def pieces(linear: Linear) -> Pieces:
        return {
            "weight (float8)": linear.numel,
            "weight_scale (float32)": _FLOAT32 * linear.out_features,
            "input_scale_ub (float32)": _FLOAT32,
        }

    convertible = _fbgemm_experts(modules)

    def experts(fused: FusedWeight, skips: Skips) -> Answer:
        if fused.module not in convertible or skips.reason(fused.module) is not None:
            return NOT_LINEAR
        rows = fused.num_experts * fused.fused_out_features
        return pieces(Linear(rows, fused.linear.in_features))

    ledger = Ledger("fbgemm_fp8")
    _convert(ledger, model, modules, config, dtype, pieces, bias_itemsize=_FLOAT32, experts=experts)
    return ledger.close()


def _fbgemm_experts(modules: NamedModules) -> frozenset[str]:
    """Fused experts that transformers has an fbgemm class for: those of Llama 4."""
    try:
        from transformers.models.llama4.modeling_llama4 import Llama4TextExperts
    except ImportError:
        return frozenset()
    return frozenset(name for name, module in modules if isinstance(module, Llama4TextExperts))


def quanto_sizes(
    model: nn.Module, modules: NamedModules, config: Mapping[str, Any], dtype: torch.dtype
) -> QuantizedSizes:
    """Sizes under ``quant_method: quanto``."""
    weights = config.get("weights", "int8")
    bits = {"int8": 8, "float8": 8, "int4": 4, "int2": 2}.get(weights)
    if bits is None:
        raise InputError(
            f"quanto has weights in float8, int8, int4 and int2, not {weights!r}"
            f"{nearest(str(weights), ['float8', 'int8', 'int4', 'int2'])}"
        )

    def pieces(linear: Linear) -> Pieces:
        itemsize = dtype.itemsize
        activation_scales = {"activation scales": 2 * itemsize}
        if bits == 8:
            scale = {"scale": itemsize * linear.out_features}
            return {f"weight ({weights})": linear.numel, **scale, **activation_scales}
        groups = linear.out_features * (linear.in_features // _quanto_group(linear.in_features))
        rows = math.ceil(linear.out_features * bits / 8)
        return {
            f"weight ({weights})": rows * linear.in_features,
            "scale and shift": 2 * itemsize * groups,
            **activation_scales,
        }

    ledger = Ledger("quanto")
    _convert(ledger, model, modules, config, dtype, pieces)
    return ledger.close()


def _quanto_group(in_features: int) -> int:
    """Inputs that share a scale: the largest of 128, 96, 64 and 32 that divides them, else all."""
    if in_features <= 128:
        return in_features
    return next((size for size in (128, 96, 64, 32) if in_features % size == 0), in_features)


def torchao_sizes(
    model: nn.Module, modules: NamedModules, config: Mapping[str, Any], dtype: torch.dtype
) -> QuantizedSizes:
    """Sizes under ``quant_method: torchao``, for configs with one layout on every card."""
    kind = _torchao_kind(config)

    def int8_pieces(linear: Linear) -> Pieces:
        rows = linear.out_features
        return {
            "qdata (int8)": linear.numel,
            "scale (float32)": _FLOAT32 * rows,
            "zero_point (int8)": rows,
        }

    def float8_pieces(linear: Linear) -> Pieces:
        scales = _FLOAT32 * linear.out_features
        return {"qdata (float8)": linear.numel, "scale (float32)": scales}

    known: Mapping[str, PiecesOf] = {
        "Int8WeightOnlyConfig": int8_pieces,
        "Int8DynamicActivationInt8WeightConfig": int8_pieces,
        "Float8WeightOnlyConfig": float8_pieces,
    }
    if kind not in known:
        raise InputError(
            f"torchao's {kind} lies in memory as the card's kernel wants it; devplan knows "
            f"{', '.join(known)}, and takes others from the safetensors headers of the checkpoint"
        )
    ledger = Ledger("torchao")
    _convert(ledger, model, modules, config, dtype, known[kind])
    return ledger.close()


def _torchao_kind(config: Mapping[str, Any]) -> str:
    kind = config.get("quant_type")
    if isinstance(kind, Mapping):
        kind = kind.get("default", kind)
    if isinstance(kind, Mapping):
        kind = kind.get("_type")
    return kind if isinstance(kind, str) else type(kind).__name__


def _convert(
    ledger: Ledger,
    model: nn.Module,
    modules: NamedModules,
    config: Mapping[str, Any],
    dtype: torch.dtype,
    pieces: PiecesOf,
    *,
    bias_itemsize: int | None = None,
    experts: Callable[[FusedWeight, Skips], Answer] = lambda fused, skips: NOT_LINEAR,
) -> None:
    """Enter the linears that are converted, and fused experts where the method has a class.

    ``bias_itemsize``: bytes of an element of a converted linear's bias, where the method changes
    them.
    """
    skips = Skips(listed_skips(model, modules, config.get("modules_to_not_convert")))
    pieces_of = cache(pieces)

    def bias(name: str, shape: Linear) -> None:
        if bias_itemsize not in (None, dtype.itemsize):
            ledger.in_memory[name] = bias_itemsize * shape.out_features

    ledger.convert_experts(modules, lambda fused: experts(fused, skips))
    ledger.convert_linears(
        modules, lambda name, _, shape: skips.reason(name) or pieces_of(shape), bias=bias
    )
    ledger.note_experts_left(ledger.method, modules, dtype)
