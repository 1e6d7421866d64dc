"""The config of compressed-tensors: which scheme a module has.

A config group names targets and one scheme for them; ``ignore`` takes modules out of all groups.
A target (or entry of ``ignore``) is the name of a module, a pattern after ``re:`` that is matched
from the start of the name, or the name of a class that the module descends from
(``compressed_tensors/utils/match.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import nn

from devplan.core import InputError

NO_MATCH = "meets no target of the quantization config"


class Scheme(NamedTuple):
    """The parts of a config group that decide bytes."""

    format: str
    bits: int
    strategy: str
    group_size: int | None
    block: tuple[int, int] | None
    symmetric: bool
    ordered: bool
    static_input: bool
    input_global_scale: bool
    itemsize: int
    """Bytes of an element of the model's dtype, in which scales lie."""


class Matcher:
    """Which scheme a module has, by its name and the names of its classes."""

    def __init__(self, config: Mapping[str, Any], dtype: torch.dtype) -> None:
        self._ignore = tuple(config.get("ignore") or ())
        self._schemes = {
            target: _scheme(group, config, dtype)
            for group in (config.get("config_groups") or {}).values()
            for target in group.get("targets") or ()
        }
        # Where several targets meet a module, the most specific wins, whatever the order of the
        # config: its name, then a pattern, then a class; the first in the alphabet of several.
        self._targets = sorted(self._schemes, key=lambda target: ("re:" in target, target))

    def __call__(self, name: str, classes: Iterable[str]) -> tuple[Scheme | None, str]:
        for pattern in self._ignore:
            if _meets(name, classes, pattern):
                return None, f"the quantization config ignores {pattern!r}"
        for target in self._targets:
            if _meets(name, (), target):
                return self._schemes[target], ""
        for target in self._targets:
            if target in classes:
                return self._schemes[target], ""
        return None, NO_MATCH


def _meets(name: str, classes: Iterable[str], pattern: str) -> bool:
    if pattern.startswith("re:"):
        return _compiled(pattern).match(name) is not None
    return pattern == name or pattern in classes


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern.removeprefix("re:"))
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(
            f"{pattern!r} of the quantization config is no regular expression ({error}); correct "
            "it in config.json"
        ) from None


@lru_cache(maxsize=256)
def class_names(cls: type[nn.Module]) -> tuple[str, ...]:
    return tuple(base.__name__ for base in cls.__mro__ if issubclass(base, nn.Module))


_FORMATS = (
    "pack-quantized",
    "int-quantized",
    "float-quantized",
    "naive-quantized",
    "nvfp4-pack-quantized",
    "mxfp4-pack-quantized",
)


def _scheme(
    group: Mapping[str, Any], config: Mapping[str, Any], dtype: torch.dtype
) -> Scheme | None:
    """The scheme of a config group, or None where it leaves the weights alone."""
    weights = group.get("weights")
    if weights is None:
        return None
    format = group.get("format") or config.get("format")
    if format not in _FORMATS:
        raise InputError(
            f"compressed-tensors format {format!r} is not known to devplan; known are "
            f"{', '.join(_FORMATS)}, and others are read from the safetensors headers of the "
            "checkpoint"
        )
    inputs = group.get("input_activations") or {}
    block = weights.get("block_structure")
    group_size = weights.get("group_size")
    if weights.get("strategy") in ("group", "tensor_group") and (group_size or 0) < 1:
        raise InputError(
            f"the quantization config groups weights ({weights['strategy']}) without a group_size "
            "above 0"
        )
    return Scheme(
        format=format,
        bits=int(weights.get("num_bits", 8)),
        strategy=_strategy(weights),
        group_size=group_size,
        block=tuple(block) if block else None,
        symmetric=bool(weights.get("symmetric", True)),
        ordered=weights.get("actorder") == "group",
        static_input=bool(inputs) and inputs.get("dynamic") is False,
        input_global_scale=inputs.get("strategy") == "tensor_group",
        itemsize=dtype.itemsize,
    )


def _strategy(weights: Mapping[str, Any]) -> str:
    """The strategy, inferred where the config leaves it out (``QuantizationArgs``)."""
    strategy = weights.get("strategy")
    if strategy is not None:
        return str(strategy)
    group_size = weights.get("group_size")
    if group_size is None:
        return "tensor"
    return "channel" if group_size == -1 else "group"
