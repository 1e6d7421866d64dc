"""Small models of every type: the default configuration, with its widths divided by one number.

What belongs together (heads and their width, the output of a tower and the width of the text) is
divided alike and so still fits.  Stacks have few layers, mixtures few experts.  Where a class does
not take widths that small, a smaller number is tried.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from devplan.core.units import format_bytes
from devplan.inputs.facts import walk
from tools.sweep.usable import usable_config

LAYERS = 4


@dataclass(frozen=True, kw_only=True)
class Size:
    """How small a configuration is made."""

    divisor: int
    """What widths are divided by."""
    small_vocabulary: bool = True
    layers: int | None = LAYERS
    """Of every stack; None: as many as it has."""

    def __str__(self) -> str:
        vocabulary = ", a small vocabulary" if self.small_vocabulary else ""
        layers = ", all layers" if self.layers is None else ""
        return f"widths divided by {self.divisor}{vocabulary}{layers}"


class TooLarge(Exception):
    """A model that is not small."""


SIZES = (
    Size(divisor=16),
    Size(divisor=8),
    Size(divisor=8, small_vocabulary=False),
    Size(divisor=16, layers=None),
    Size(divisor=2, small_vocabulary=False),
    Size(divisor=1, small_vocabulary=False),
)
"""The first that works is taken."""
LARGEST_BYTES = 1 << 29
"""Of weights in float32: what is larger is no small model."""
SMALLEST_WIDTH = 32
"""Smaller numbers are channels of a picture, groups of a norm, or small already."""
NUM_EXPERTS = 8
EXPERTS_PER_TOKEN = 2
SMALL_VOCABULARY = 2048

SPECIAL: Mapping[str, Mapping[str, Any]] = {
    # Few layers must have one of each kind.
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
}
"""What a type needs beside that."""

_WIDTH = re.compile(
    r"(hidden|embed|embedding|intermediate|inner|ffn|model|head|filter|bottleneck|feedforward|"
    r"proj|projection|projector|mlp|output|input|kv|ff|qk_rope_head|qk_nope_head|v_head|rotary|"
    r"lora|decoder|encoder|backbone|rnn|lstm|conv|upsample_initial|mamba_d|expert)s?_?"
    r"(size|sizes|dim|dims|rank|width|channel|channels)$"
    r"|^(d_model|d_ff|d_kv|d_inner|n_embd|n_embed|dim|dims|width|embed_dim|n_inner|channels)$"
    r"|(embed|hidden|mlp|ffn|ff|conv|inner|attention|head)_?(dim|size|channels)s?$"
    r"|intermediate_size"
)
_EXPERTS = re.compile(r"^(moe_)?(num|n)_(routed_|local_)?experts$")
_PER_TOKEN = re.compile(r"experts_per_tok|^top_k_experts$|^moe_(k|topk|top_k)$")
_SECTIONS = re.compile(r"mrope_section|axes_dim")
"""Parts of half a head, each with a rotary embedding of its own."""
_GROUPS = ("n_group", "topk_group")
_TOKEN = re.compile(r"token.*(id|ids|index)$|_(id|index)$")
_NO_WIDTH = re.compile(r"vocab|image|patch|kernel|window|codebook_size|max_|num_|block|chunk")


def tiny_model(model_type: str, model_class: type, size: Size) -> nn.Module:
    """A model with random weights, in float32 and eval mode.

    Raises
    ------
    TooLarge
        When it is no small model.
    Exception
        Whatever the class raises that does not take such a configuration.
    """
    config = tiny_config(model_type, size)
    config.architectures = [model_class.__name__]
    with torch.device("meta"):
        shapes = model_class(copy.deepcopy(config))
    num_bytes = 4 * sum(parameter.numel() for parameter in shapes.parameters())
    if num_bytes > LARGEST_BYTES:
        raise TooLarge(f"its weights take {format_bytes(num_bytes)} with {size}")
    torch.manual_seed(0)
    return model_class(config).eval().to(torch.float32)


def tiny_config(model_type: str, size: Size) -> Any:
    """The usable configuration of a type, made small."""
    config = usable_config(model_type, size.layers)
    for name, value in SPECIAL.get(model_type, {}).items():
        setattr(config, name, value)
    for _, part in walk(config):
        for name, value in list(vars(part).items()):
            made = _made_small(name, value, size.divisor)
            if size.small_vocabulary:
                made = _in_small_vocabulary(name, made)
            if made != value:
                setattr(part, name, made)
    return config


def _made_small(name: str, value: Any, divisor: int) -> Any:
    if _EXPERTS.search(name) and isinstance(value, int):
        return min(value, NUM_EXPERTS)
    if _PER_TOKEN.search(name) and isinstance(value, int):
        return min(value, EXPERTS_PER_TOKEN)
    if name in _GROUPS and isinstance(value, int):
        return 1
    if isinstance(value, dict):
        return {key: _made_small(str(key), each, divisor) for key, each in value.items()}
    if _SECTIONS.search(name) and isinstance(value, list):
        return _parts(value, sum(value) // divisor)
    if _NO_WIDTH.search(name) or not _WIDTH.search(name):
        return value
    if isinstance(value, list | tuple):
        divided = [_divided(each, divisor) for each in value]
        return type(value)(divided) if all(type(each) is int for each in value) else value
    return _divided(value, divisor)


def _divided(value: Any, divisor: int) -> Any:
    is_width = type(value) is int and value >= SMALLEST_WIDTH and value % divisor == 0
    return value // divisor if is_width else value


def _parts(parts: list[int], total: int) -> list[int]:
    """Parts of about the same proportions with another sum; none is empty."""
    made = [max(part * total // sum(parts), 1) for part in parts]
    made[-1] += total - sum(made)
    return made


def _in_small_vocabulary(name: str, value: Any) -> Any:
    """The size of a vocabulary, or a token, as it is when there are few; the last digits tell
    tokens apart."""
    if name == "vocab_size" and type(value) is int:
        return min(value, SMALL_VOCABULARY)
    if not _TOKEN.search(name):
        return value
    if isinstance(value, list):
        return [_in_small_vocabulary(name, each) for each in value]
    is_large = type(value) is int and value >= SMALL_VOCABULARY
    return SMALL_VOCABULARY // 2 + value % (SMALL_VOCABULARY // 2) if is_large else value
