"""GPTQ: weights of 2, 3, 4 or 8 bits packed into int32.

For a linear ``[out, in]`` with groups of ``group_size`` inputs (-1: one group)::

    qweight  int32  [in * bits / 32, out]        qzeros  int32    [groups, out * bits / 32]
    g_idx    int32  [in]                         scales  float16  [groups, out]

``g_idx`` is there whether or not ``desc_act`` is set.  A bias lies in float16.
Source of the layout: ``GPTQQuantLinear._register_gptq_buffers`` in
https://github.com/ModelCloud/GPTQModel/blob/00f3d5eff6f01b64f3eac2a9109572b296a1e461/gptqmodel/nn_modules/qlinear/__init__.py
Some kernels repack these tensors when the model is ready (Marlin drops ``g_idx`` without
``desc_act``, for one); that depends on the card and changes less than a percent.

What is converted (``GPTQQuantizer.convert_model`` of optimum, ``optimum/gptq/quantizer.py`` at
https://github.com/huggingface/optimum/blob/83c88b8fc51e791f263a954e3568e1d2a02aa003/optimum/gptq/quantizer.py):
linears (exactly ``nn.Linear``, and ``Conv1D``) inside the stack of blocks, only those that
``modules_in_block_to_quantize`` names where it is given.  GPTQModel's ``dynamic`` excludes modules
(``-:``) or gives them other bits and groups.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import nn

from devplan.core import InputError
from devplan.profile.checkpoint import conversions, stored_projections
from devplan.profile.quantization.linears import FusedWeight, Linear, subclass_reason
from devplan.profile.quantization.sizes import Answer, Ledger, Pieces, QuantizedSizes
from devplan.profile.tree import NamedModules

BITS = (2, 3, 4, 8)
_INT32 = 4
_FLOAT16 = 2
EXPERTS_NOTE = (
    "fused experts are counted packed, projection by projection, as the checkpoint holds them; "
    "transformers 5 has no conversion that loads packed {method} experts into fused parameters"
)

# Where the blocks are, in the order in which optimum tries them (BLOCK_PATTERNS in
# optimum/gptq/constants.py).
_BLOCK_PREFIXES = (
    "transformer.h",
    "model.decoder.layers",
    "gpt_neox.layers",
    "model.layers",
    "model.language_model.layers",
    "h",
    "decoder.layers",
    "layers",
)


class GptqLayout(NamedTuple):
    """The parts of the config that decide bytes."""

    bits: int
    group_size: int


def sizes(
    model: nn.Module, modules: NamedModules, config: Mapping[str, Any], dtype: torch.dtype
) -> QuantizedSizes:
    """Sizes under ``quant_method: gptq``."""
    ledger = Ledger("gptq")
    choose = _Choice(modules, config)
    rules = cache(partial(conversions, model))

    def linear(name: str, module: nn.Module, shape: Linear) -> Answer:
        if isinstance(module, nn.Linear) and type(module) is not nn.Linear:
            return subclass_reason(module)
        return _packed(shape, *choose(name))

    def experts(fused: FusedWeight) -> Answer:
        layout, reason = _choice_of_experts(choose, fused, rules())
        if layout is not None:
            ledger.notes[:] = [EXPERTS_NOTE.format(method="GPTQ")]
        return _packed(fused.linear, layout, reason)

    ledger.convert_linears(
        modules,
        linear,
        kind=nn.Module,
        bias=lambda name, shape: ledger.add(name, float16_bias(shape.out_features)),
    )
    ledger.convert_experts(modules, experts)
    return ledger.close()


def _packed(linear: Linear, layout: GptqLayout | None, reason: str) -> Answer:
    return reason if layout is None else pieces(linear, layout)


@lru_cache(maxsize=4096)
def pieces(linear: Linear, layout: GptqLayout) -> Pieces:
    """Pieces of `linear.count` equal linears."""
    out_features, in_features, count = linear
    groups = 1 if layout.group_size == -1 else math.ceil(in_features / layout.group_size)
    return {
        "qweight (int32)": count * _INT32 * (in_features // 32 * layout.bits) * out_features,
        "qzeros (int32)": count * _INT32 * groups * (out_features // 32 * layout.bits),
        "scales (float16)": count * _FLOAT16 * groups * out_features,
        "g_idx (int32)": count * _INT32 * in_features,
    }


@lru_cache(maxsize=1024)
def float16_bias(out_features: int) -> Pieces:
    """The bias of a converted linear: a float16 buffer."""
    return {"bias (float16)": _FLOAT16 * out_features}


class _Choice:
    """Which linears are converted, and with which layout."""

    def __init__(self, modules: NamedModules, config: Mapping[str, Any]) -> None:
        self._layout = _layout(config)
        self._prefix = config.get("block_name_to_quantize") or _block_prefix(modules)
        groups = config.get("modules_in_block_to_quantize")
        self._endings = None if groups is None else tuple(_flat(groups))
        self._dynamic = config.get("dynamic") or {}
        self._lm_head = bool(config.get("lm_head"))

    def __call__(self, name: str) -> tuple[GptqLayout | None, str]:
        if not name.startswith(self._prefix) and not (self._lm_head and name == "lm_head"):
            return None, f"outside the blocks {self._prefix!r}"
        if self._endings is not None and not name.endswith(self._endings):
            return None, "not named in modules_in_block_to_quantize"
        for pattern, override in self._dynamic.items():
            if pattern.startswith("-:"):
                if re.match(pattern[2:], name):
                    return None, f"the quantization config excludes {pattern!r}"
            elif re.match(pattern.removeprefix("+:"), name):
                return _layout({**self._layout._asdict(), **override}), ""
        return self._layout, ""


def _choice_of_experts(
    choose: _Choice, fused: FusedWeight, rules: tuple[list[Any], list[Any]]
) -> tuple[GptqLayout | None, str]:
    """The choice for the first projection of the first expert, under any of its names."""
    answers = [
        choose(names[0]) for names in stored_projections(rules, fused.parameter, fused.projections)
    ]
    return next((answer for answer in answers if answer[0] is None), answers[0])


def _layout(config: Mapping[str, Any]) -> GptqLayout:
    bits, group_size = config.get("bits"), config.get("group_size", 128)
    if bits not in BITS:
        raise InputError(f"GPTQ packs {BITS} bits, the quantization config says {bits!r}")
    if not isinstance(group_size, int) or (group_size != -1 and group_size <= 0):
        raise InputError(
            f"group_size of the quantization config is {group_size!r}; it must be positive or -1"
        )
    return GptqLayout(bits, group_size)


def _block_prefix(modules: NamedModules) -> str:
    # A name that starts with a prefix lies in one as short as the prefix that does.
    shallow = [name for name, _ in modules if name.count(".") <= 2]
    for prefix in _BLOCK_PREFIXES:
        if any(name.startswith(prefix) for name in shallow):
            return prefix
    raise InputError(
        "the blocks that GPTQ quantizes cannot be found in this model; name them with "
        "block_name_to_quantize in the quantization config"
    )


def _flat(groups: Iterable[Any]) -> Iterable[str]:
    for group in groups:
        yield from (group,) if isinstance(group, str) else group
