"""fp8 with block scales (``quant_method: fp8`` as DeepSeek-V3 has it, and ``mxfp8``).

Weights in float8 e4m3, one byte each; ``weight_scale_inv`` per block of ``weight_block_size`` (128
by 128), float32, or one byte where ``scale_fmt`` is ``ue8m0``; one scalar scale where the block
size is null.  ``activation_scheme: static`` adds one float32 per linear.  ``expert_dtype: fp4``
packs two expert weights a byte, with one scale per 32.

What is converted (``replace_with_fp8_linear`` of transformers 5.23): modules whose type is exactly
``nn.Linear`` or a grouped linear, and every module named ``experts``, whose fused parameters are
blocked expert by expert over the fused matrix.  The names in ``modules_to_not_convert`` are those
of the checkpoint and are renamed as its tensors are.  ``dequantize: true`` converts none of them,
but still the embedding tables that ``modules_to_convert`` names.

Checked against ``FP8Linear`` and ``FP8Experts`` on the meta device, parameter by parameter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import nn

from devplan.core import InputError
from devplan.profile.checkpoint import conversions
from devplan.profile.quantization.linears import FusedWeight, Linear, subclass_reason
from devplan.profile.quantization.sizes import Answer, Ledger, Pieces, QuantizedSizes
from devplan.profile.quantization.skips import Skips, listed_skips
from devplan.profile.tree import NamedModules

_FLOAT32 = 4
_FP4_GROUP = 32
_DEFAULT_BLOCK = (128, 128)
# Below this compute capability transformers loads the model dequantized
# (FineGrainedFP8HfQuantizer.validate_environment, transformers 5.23).
_NEEDS_CAPABILITY = "8.9"


class Fp8Layout(NamedTuple):
    """The parts of the config that decide bytes."""

    block: tuple[int, int] | None
    scale_bytes: int
    static: bool
    fp4_experts: bool


def sizes(
    model: nn.Module, modules: NamedModules, config: Mapping[str, Any], dtype: torch.dtype
) -> QuantizedSizes:
    """Sizes under ``quant_method: fp8`` or ``mxfp8``."""
    ledger = Ledger(str(config.get("quant_method", "fp8")))
    skips = Skips(listed_skips(model, modules, _listed(model, config)))
    _convert_embeddings(ledger, modules, skips, config.get("modules_to_convert") or (), dtype)
    if config.get("dequantize"):
        ledger.notes.append("dequantize: the weights are unpacked while they are loaded")
        return ledger.close()
    layout = _layout(config)

    def linear(name: str, module: nn.Module, shape: Linear) -> Answer:
        return skips.reason(name) or _unfit(module) or linear_pieces(shape, layout)

    def experts(fused: FusedWeight) -> Answer:
        reason = skips.reason(fused.module)
        if reason is None and not fused.module.endswith(".experts"):
            reason = "fused experts in a module that is not named experts"
        if reason is None and fused.bias_features:
            reason = "transformers has no fp8 experts with a bias"
        return reason or expert_pieces(fused, layout)

    ledger.convert_linears(modules, linear)
    ledger.convert_experts(modules, experts)
    ledger.notes.append(
        f"fp8 stays packed on GPUs of compute capability {_NEEDS_CAPABILITY} and above only; "
        "on others transformers unpacks it to bfloat16"
    )
    return ledger.close()


def _layout(config: Mapping[str, Any]) -> Fp8Layout:
    block = config.get("weight_block_size", _DEFAULT_BLOCK)
    if block is not None and (len(block) != 2 or min(block) <= 0):
        raise InputError(
            f"weight_block_size of the quantization config is {block!r}; it must be two positive "
            "numbers or null"
        )
    return Fp8Layout(
        block=None if block is None else (int(block[0]), int(block[1])),
        scale_bytes=1 if config.get("scale_fmt") == "ue8m0" else _FLOAT32,
        static=str(config.get("activation_scheme", "dynamic")).lower() == "static",
        fp4_experts=config.get("expert_dtype") == "fp4",
    )


def _listed(model: nn.Module, config: Mapping[str, Any]) -> Iterable[str] | None:
    """The config's list with its names renamed to the model's, or None where there is none."""
    listed = config.get("modules_to_not_convert")
    if listed is None:
        listed = config.get("ignored_layers")
    if not listed:
        return listed
    renamings, converters = conversions(model)
    renamed = []
    for name in listed:
        key = f"{name}."
        for rule in (*renamings, *converters):
            key, _ = rule.rename_source_key(key)
        renamed.append(key.removesuffix("."))
    return renamed


def _unfit(module: nn.Module) -> str | None:
    """Why a linear module is no case for fp8, or None."""
    if type(module) is nn.Linear or "GroupedLinear" in type(module).__name__:
        return None
    return subclass_reason(module)


@lru_cache(maxsize=4096)
def linear_pieces(linear: Linear, layout: Fp8Layout) -> Pieces:
    """Pieces of `linear.count` equal linears."""
    if layout.block is None:
        scales = _FLOAT32
    else:
        scales = layout.scale_bytes * (
            math.ceil(linear.out_features / layout.block[0])
            * math.ceil(linear.in_features / layout.block[1])
        )
    pieces = {"weight (float8)": linear.numel, "weight_scale_inv": linear.count * scales}
    if layout.static:
        pieces["activation_scale"] = linear.count * _FLOAT32
    return pieces


def expert_pieces(fused: FusedWeight, layout: Fp8Layout) -> Pieces:
    """Pieces of one fused parameter: blocks cover the fused matrix of each expert."""
    if layout.fp4_experts:
        rows, columns = fused.fused_out_features, math.ceil(fused.linear.in_features / _FP4_GROUP)
        weight = {"weight (packed fp4)": fused.linear.numel // 2}
    else:
        block = layout.block
        rows = math.ceil(fused.fused_out_features / block[0]) if block else 1
        columns = math.ceil(fused.linear.in_features / block[1]) if block else 1
        weight = {"weight (float8)": fused.linear.numel}
    # Room for both halves, however few rows they have.
    rows = max(rows, len(fused.projections))
    pieces = {**weight, "weight_scale_inv": fused.num_experts * rows * columns * layout.scale_bytes}
    if layout.static:
        pieces["activation_scale"] = fused.num_experts * _FLOAT32
    return pieces


def _convert_embeddings(
    ledger: Ledger,
    modules: NamedModules,
    skips: Skips,
    patterns: Iterable[str],
    dtype: torch.dtype,
) -> None:
    """Embedding tables that the config names: float8 with one scale."""
    endings = tuple(patterns)
    if not endings:
        return
    for name, module in modules:
        if type(module) is nn.Embedding and name.endswith(endings) and not skips.reason(name):
            pieces = {"embedding (float8)": module.weight.numel(), "weight_scale": dtype.itemsize}
            ledger.add(f"{name}.weight", pieces)
