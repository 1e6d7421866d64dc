"""compressed-tensors: groups of modules, each with its own scheme, in one of several formats.

Per linear ``[out, in]`` (groups: one per row for ``channel``, ``in / group_size`` per row for
``group``, one in all for ``tensor``, blocks for ``block``):

======================= ============================================================================
format                  pieces
======================= ============================================================================
pack-quantized          ``weight_packed`` int32 ``[out, in * bits / 32]``; ``weight_scale`` in the
                        model's dtype; ``weight_shape`` two int64; without symmetry also
                        ``weight_zero_point`` int32, packed along the rows (int8 per tensor)
int-, float-, naive-    ``weight`` int8 or float8; ``weight_scale`` in the model's dtype;
quantized               ``weight_zero_point`` int8 without symmetry; ``input_scale`` for static
                        activations
nvfp4-pack-quantized    ``weight_packed`` two a byte; ``weight_scale`` float8 per group;
                        ``weight_global_scale`` and ``input_global_scale`` float32
mxfp4-pack-quantized    ``weight_packed`` two a byte; ``weight_scale`` one byte per group
======================= ============================================================================

``actorder: group`` adds ``weight_g_idx`` int32 ``[in]``.

What is converted (``apply_quantization_config`` of compressed-tensors): linears, and embeddings
where a target asks for them, that meet a target (name, ``re:`` pattern, or name of a class they
descend from) and no entry of ``ignore``.  Experts are met under the names that the checkpoint has
for their projections.

**What lies in memory is something else**: transformers 5 unpacks fused experts while it loads them
(``CompressedTensorsDequantize``), and compressed-tensors unpacks every linear at the first forward
pass (``ModelCompressor.add_decompress_hook``) for good, keeping the scales.  Both were seen on a
small Qwen3-MoE in INT4 with transformers 5.23 and compressed-tensors 0.20.  Before transformers 5
linears stay packed.

Shapes measured with compressed-tensors 0.20; the numbers are in the tests.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import nn

from devplan.core import InputError, format_bytes
from devplan.profile.checkpoint import conversions, stored_projections
from devplan.profile.quantization.linears import FusedWeight, Linear, linear_shape
from devplan.profile.quantization.sizes import Answer, Ledger, Pieces, QuantizedSizes
from devplan.profile.tree import NamedModules

_FLOAT32 = 4
_INT32 = 4
_SHAPE_BYTES = 2 * 8
_WEIGHT_PIECES = ("weight", "weight_packed")


def sizes(
    model: nn.Module, modules: NamedModules, config: Mapping[str, Any], dtype: torch.dtype
) -> QuantizedSizes:
    """Sizes under ``quant_method: compressed-tensors``."""
    ledger = Ledger("compressed-tensors")
    match = Matcher(config, dtype)
    linears: dict[str, tuple[int, Pieces]] = {}
    packed_experts: dict[str, tuple[int, Pieces]] = {}
    """Parameter -> elements and pieces."""
    rules = cache(partial(conversions, model))

    def linear(name: str, module: nn.Module, shape: Linear) -> Answer:
        scheme, reason = match(name, class_names(type(module)))
        if scheme is None:
            return reason if isinstance(module, nn.Linear) else None
        found = pieces(shape, scheme)
        linears[f"{name}.weight"] = (shape.numel, found)
        return found

    def experts(fused: FusedWeight) -> Answer:
        alternatives = stored_projections(rules(), fused.parameter, fused.projections)
        answers = [match(names[0], ("Linear", "Module")) for names in alternatives]
        ignored = next((why for _, why in answers if why not in ("", NO_MATCH)), None)
        scheme = next((scheme for scheme, _ in answers if scheme is not None), None)
        if scheme is None or ignored:
            return ignored or NO_MATCH
        found = pieces(fused.linear, scheme)
        packed_experts[fused.parameter] = (fused.linear.numel, found)
        return found

    ledger.convert_linears(modules, linear, kind=nn.Module, shape_of=_shape)
    ledger.convert_experts(modules, experts)
    entered = {**linears, **packed_experts}
    if config.get("dequantize") or config.get("run_compressed") is False:
        _unpack(ledger, entered, dtype, keep_scales=frozenset())
    elif _transformers_unpacks():
        _unpack(ledger, entered, dtype, keep_scales=frozenset(linears))
    return ledger.close()


def _shape(module: nn.Module) -> Linear | None:
    """Of a linear, or of an embedding, which a target may ask for."""
    if isinstance(module, nn.Embedding):
        return Linear(module.num_embeddings, module.embedding_dim)
    return linear_shape(module) if isinstance(module, nn.Linear) else None


def _unpack(
    ledger: Ledger,
    entered: Mapping[str, tuple[int, Pieces]],
    dtype: torch.dtype,
    *,
    keep_scales: frozenset[str],
) -> None:
    """Say what lies in memory once the weights are unpacked to the model's dtype."""
    packed = 0
    for parameter, (numel, found) in entered.items():
        rest = 0
        if parameter in keep_scales:
            rest = sum(size for piece, size in found.items() if piece not in _WEIGHT_PIECES)
        ledger.in_memory[parameter] = numel * dtype.itemsize + rest
        packed += sum(found.values())
    if entered:
        ledger.notes.append(
            "the installed transformers and compressed-tensors unpack these weights: "
            f"{format_bytes(packed)} in the checkpoint become "
            f"{format_bytes(sum(ledger.in_memory.values()))} in memory (fused experts while "
            "loading, linears at the first forward pass)"
        )


def _transformers_unpacks() -> bool:
    """Whether this is transformers 5 or later, whose compressed-tensors unpacks."""
    import transformers

    return int(transformers.__version__.split(".")[0]) >= 5


@lru_cache(maxsize=4096)
def pieces(linear: Linear, scheme: Scheme) -> Pieces:
    """Pieces of `linear.count` equal linears, by their names in a checkpoint."""
    found = _pieces_of_one(Linear(linear.out_features, linear.in_features), scheme)
    return {piece: linear.count * size for piece, size in found.items()}


def _pieces_of_one(linear: Linear, scheme: Scheme) -> dict[str, int]:
    scales = _num_scales(linear, scheme)
    if scheme.format in ("nvfp4-pack-quantized", "mxfp4-pack-quantized"):
        found = {"weight_packed": math.ceil(linear.numel / 2), "weight_scale": scales}
        if scheme.format == "nvfp4-pack-quantized":
            found["weight_global_scale"] = _FLOAT32
        if scheme.input_global_scale:
            found["input_global_scale"] = _FLOAT32
        return found
    if scheme.format == "pack-quantized":
        row = math.ceil(linear.in_features * scheme.bits / 32)
        found = {"weight_packed": _INT32 * linear.out_features * row}
        found["weight_shape"] = _SHAPE_BYTES
    else:
        found = {"weight": linear.numel}
    found["weight_scale"] = scales * scheme.itemsize
    if not scheme.symmetric:
        found["weight_zero_point"] = _zero_point_bytes(linear, scheme, scales)
    if scheme.ordered:
        found["weight_g_idx"] = _INT32 * linear.in_features
    if scheme.static_input:
        found["input_scale"] = scheme.itemsize
    return found


def _num_scales(linear: Linear, scheme: Scheme) -> int:
    if scheme.strategy == "tensor":
        return 1
    if scheme.strategy == "channel":
        return linear.out_features
    if scheme.strategy == "block":
        rows, columns = _stated(scheme, scheme.block, "block_structure")
        return math.ceil(linear.out_features / rows) * math.ceil(linear.in_features / columns)
    group_size = _stated(scheme, scheme.group_size, "group_size")
    return linear.out_features * math.ceil(linear.in_features / group_size)


def _stated(scheme: Scheme, value: Any, name: str) -> Any:
    if value is None:
        raise InputError(
            f"the quantization config has the strategy {scheme.strategy!r} without a {name}; "
            "correct it in config.json"
        )
    return value


def _zero_point_bytes(linear: Linear, scheme: Scheme, scales: int) -> int:
    """Zero points are packed along the rows where there are several scales to a format."""
    if scheme.format != "pack-quantized" or scheme.strategy not in ("group", "channel"):
        return scales
    per_row = scales // linear.out_features
    return _INT32 * per_row * math.ceil(linear.out_features * scheme.bits / 32)


# ------------------------------------------------------------------------------------------ schemes
#
# A config group names targets and one scheme for them; ``ignore`` takes modules out of all groups.
# A target (or entry of ``ignore``) is the name of a module, a pattern after ``re:`` that is matched
# from the start of the name, or the name of a class that the module descends from
# (``compressed_tensors/utils/match.py``).


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
            f"{pattern!r} of the quantization config is not a regular expression ({error}); "
            "correct "
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
