"""From the names in a checkpoint to the names in the model, by transformers' own rules.

A class may name its parameters differently from the checkpoints that it loads: renamed modules, a
base-model prefix more or less, experts stored one by one and fused on load.  From transformers 5
on the rules are objects (``conversion_mapping.get_model_conversion_mapping``): *renamings*, all of
which apply in turn, then at most one *converter*, which merges several tensors into one parameter
or splits one into several.  transformers 4.45 to 4.57 had a dictionary on the class,
``_checkpoint_conversion_mapping``, of which the first pattern that is met applies.

A checkpoint holds tens of thousands of names that differ in their numbers only, so the rules are
asked once per shape of name: the numbers are replaced by stand-ins, and the answer is filled with
the numbers again.  Where the answer is no name of the model (a rule that looks at the number
itself), the rules are asked for the very name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn

from devplan.models import StoredTensor, of_the_library

# A component that is a number; splitting keeps the numbers.
_NUMBER = re.compile(r"(?<![^.])(\d+)(?![^.])")
# Stand-ins that no real index reaches.
_FIRST_STAND_IN = 90_000_001


# Endings of the names under which methods store the pieces of one weight, and what the weight
# itself is called.  The methods' serialized names are in transformers' quantizers
# (``serialized_names``); GPTQ's and AWQ's in the files of this package.
_PIECES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), weight)
    for pattern, weight in (
        # bitsandbytes in 4 bits; quanto
        (r"\.weight\.(?:nested_)?(?:absmax|quant_map)$", ".weight"),
        (r"\.weight\.quant_state\.bitsandbytes__(?:nf4|fp4)$", ".weight"),
        (r"\.weight\._(?:data|scale|shift)$", ".weight"),
        # bitsandbytes in 8 bits
        (r"\.(?:SCB|weight_format)$", ".weight"),
        # fp8, compressed-tensors, fbgemm_fp8, eetq
        (
            r"\.weight_(?:packed|scale|scale_inv|scales|zero_point|global_scale|shape|g_idx)$",
            ".weight",
        ),
        (r"\.(?:input|activation)_(?:scale|zero_point|global_scale|scale_ub)$", ".weight"),
        (r"\.(?:scale|qscale_weight|qscale_act)$", ".weight"),
        # GPTQ, AWQ
        (r"\.(?:qweight|qzeros|scales|g_idx)$", ".weight"),
        # torchao
        (
            r"\._weight_(?:qdata|scale|zero_point|scale_and_zero|per_tensor_scale|act_pre_scale)$",
            ".weight",
        ),
        # fused experts: MXFP4, fp8
        (r"_(?:blocks|scales)$", ""),
        (r"_(?:scale_inv|activation_scale)$", ""),
    )
)


class NameRule(NamedTuple):
    """What becomes of the stored names of one shape."""

    targets: tuple[str, ...]
    """Names of the model, with ``{0}``, ``{1}``, ... for the numbers of the stored name."""
    is_piece: bool
    """Whether the stored tensor is a piece of a packed weight."""


_NO_RULE = NameRule((), False)


class CheckpointNames:
    """Translates names of stored tensors into names of the model.

    Parameters
    ----------
    model
        Skeleton, not quantized.
    known
        Every name that the model has: parameters and buffers, tied ones under all their names.
    """

    def __init__(self, model: nn.Module, known: Collection[str]) -> None:
        self._known = known
        self._prefix = getattr(model, "base_model_prefix", "") or ""
        self._renamings, self._converters = conversions(model)
        self._by_pattern = {
            pattern: converter
            for converter in self._converters
            for pattern in converter.source_patterns
        }
        self._legacy = getattr(model, "_checkpoint_conversion_mapping", None) or {}
        self._rules: dict[tuple[str, ...], NameRule] = {}
        # ``GroupWeightRename`` applies only after it has met its first name.
        self.depends_on_order = any(hasattr(rule, "_active") for rule in self._renamings)

    def resolve(self, stored_name: str) -> tuple[tuple[str, ...], bool]:
        """Names of the model that a stored tensor goes into, and whether it is a packed piece.

        No names where it belongs to nothing in the model.
        """
        if stored_name in self._known:
            return (stored_name,), False
        parts = _NUMBER.split(stored_name)
        shape, numbers = tuple(parts[::2]), parts[1::2]
        rule = self._rules.get(shape)
        if rule is None:
            rule = self._learn(_stand_in(shape), numbers)
            if rule.targets:  # else the next name of this shape may do better
                self._rules[shape] = rule
        targets = tuple([target.format(*numbers) for target in rule.targets])
        if targets and all([target in self._known for target in targets]):
            return targets, rule.is_piece
        return self._learn(stored_name, ())

    def _learn(self, name: str, numbers: Sequence[str]) -> NameRule:
        """The rule for a name, in which stand-ins may take the place of `numbers`."""
        for candidate, is_piece in ((name, False), (weight_name(name) or name, True)):
            targets = [
                self._known_form(_template(renamed, len(numbers)), numbers)
                for renamed in self._renamed(candidate)
            ]
            if all(target is not None for target in targets):
                return NameRule(tuple(target for target in targets if target is not None), is_piece)
        return _NO_RULE

    def _renamed(self, name: str) -> tuple[str, ...]:
        for pattern, replacement in self._legacy.items():
            renamed, times = re.subn(pattern, replacement, name)
            if times:
                return (renamed,)
        if not (self._renamings or self._converters):
            return (name,)
        from transformers.core_model_loading import rename_source_key

        renamed, pattern = rename_source_key(name, self._renamings, self._converters)
        if pattern is None:
            return (renamed,)
        first, *others = self._by_pattern[pattern].target_patterns
        return (renamed, *(renamed.replace(first, other) for other in others))

    def _known_form(self, template: str, numbers: Sequence[str]) -> str | None:
        """The template as it is, without or with the base-model prefix: what the model knows."""
        forms = [template]
        if self._prefix:
            forms += [template.removeprefix(f"{self._prefix}."), f"{self._prefix}.{template}"]
        return next((form for form in forms if form.format(*numbers) in self._known), None)


def weight_name(piece: str) -> str | None:
    """Name of the weight that a tensor is a piece of, or None where it looks like no piece."""
    for pattern, weight in _PIECES:
        name, times = pattern.subn(weight, piece)
        if times:
            return name
    return None


def _stand_in(shape: Sequence[str]) -> str:
    """A name of the given shape with a number in every gap that no real index reaches."""
    numbers = (str(_FIRST_STAND_IN + gap) for gap in range(len(shape) - 1))
    return shape[0] + "".join(f"{n}{text}" for n, text in zip(numbers, shape[1:], strict=True))


def _template(name: str, num_numbers: int) -> str:
    """The name with its stand-ins as ``{0}``, ``{1}``, ..."""
    for gap in range(num_numbers):
        name = name.replace(str(_FIRST_STAND_IN + gap), f"{{{gap}}}")
    return name


def conversions(model: nn.Module) -> tuple[list[Any], list[Any]]:
    """Renamings and converters of a model's class; both empty before transformers 5."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter
    except ImportError:
        return [], []
    with of_the_library(f"{type(model).__name__}: transformers cannot name its stored tensors"):
        rules = get_model_conversion_mapping(model)
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    return [rule for rule in rules if not isinstance(rule, WeightConverter)], converters


def stored_projections(
    model_rules: tuple[list[Any], list[Any]], parameter: str, projections: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Names under which a checkpoint may hold the first expert's projections of a fused parameter.

    Parameters
    ----------
    model_rules
        ``conversions(model)``.
    parameter
        Name of the fused parameter: ``model.layers.0.mlp.experts.gate_up_proj``.
    projections
        Names that the projections have where no rule says otherwise.

    Returns
    -------
    tuple
        Alternatives, each one name per projection, without ``.weight``: the names by the rules
        (``model.layers.0.mlp.experts.0.w1``), and those with the renamings undone.
    """
    renamings, converters = model_rules
    names = _by_converter(converters, parameter)
    if names is None:
        experts = parameter.rpartition(".")[0]
        names = tuple(f"{experts}.0.{projection}" for projection in projections)
    undone = tuple(_undone(renamings, f"{name}.weight").removesuffix(".weight") for name in names)
    return tuple(dict.fromkeys((names, undone)))


def _by_converter(converters: Iterable[Any], parameter: str) -> tuple[str, ...] | None:
    for converter in converters:
        target = converter.target_patterns[0]
        sources = converter.source_patterns
        if len(converter.target_patterns) != 1 or not parameter.endswith(target):
            continue
        if not all("*" in source and source.endswith(".weight") for source in sources):
            continue
        start = parameter[: -len(target)]
        return tuple(start + source.replace("*", "0")[: -len(".weight")] for source in sources)
    return None


def _undone(renamings: Iterable[Any], name: str) -> str:
    """A model's name with its class's own renamings undone, as far as they can be."""
    for renaming in reversed(list(renamings)):
        if any(set(pattern) & set("^$\\()[]|?*+") for pattern in renaming.target_patterns):
            continue  # a pattern whose inverse is no plain text
        try:
            name, _ = renaming.reverse_transform().rename_source_key(name)
        except Exception:  # not every rule has an inverse; the name without it is as good
            continue
    return name


# -------------------------------------------------------------------------------------------- sizes
#
# Every stored tensor is attributed to the parameter (or buffer) of the skeleton that it belongs to:
# by its name, by the class's own conversions, and, for the pieces of packed weights, by the module
# that they are pieces of.  ``q_proj.weight_packed``, ``q_proj.weight_scale`` and
# ``q_proj.weight_shape`` all belong to ``q_proj.weight``, ``experts.7.up_proj.qweight`` to the
# fused ``experts.gate_up_proj``.
#
# For an unquantized checkpoint these sizes do not decide the bytes in memory, as
# ``from_pretrained`` casts to the model's dtype.  For a quantized one they do, for the parameters
# that are packed.


_PACKED_DTYPES = frozenset({"I8", "U8", "I32", "U32", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4"})


@dataclass(frozen=True, kw_only=True)
class StoredSizes:
    """A checkpoint's bytes, attributed to the parameters of a skeleton."""

    bytes: Mapping[str, int]
    """Parameter -> bytes of everything that is stored of it."""
    packed: frozenset[str]
    """Parameters of which pieces of a packed weight are stored, or an integer or 8-bit dtype."""
    buffers: Mapping[str, int] = field(default_factory=dict)
    """Buffer -> stored bytes."""
    unmatched: Mapping[str, int] = field(default_factory=dict)
    """Stored tensor that belongs to nothing in the skeleton -> bytes."""
    missing: tuple[str, ...] = ()
    """Parameters of which nothing is stored."""


def stored_bytes(model: nn.Module, stored: Mapping[str, StoredTensor]) -> StoredSizes:
    """Attribute every stored tensor to the parameter that it belongs to.

    Parameters
    ----------
    model
        Skeleton on the meta device, not quantized.
    stored
        Name -> tensor of all the checkpoint's headers.

    Returns
    -------
    StoredSizes
        Tied parameters count under the name that ``named_parameters()`` gives them, once.
    """
    skeleton = _Skeleton(model)
    names = CheckpointNames(model, skeleton.known)
    book = _Book(skeleton)
    tensors = _in_loading_order(stored) if names.depends_on_order else stored.values()
    for tensor in tensors:
        targets, is_piece = names.resolve(tensor.name)
        if targets:
            book.enter(tensor, targets, packed=is_piece or tensor.dtype in _PACKED_DTYPES)
        else:
            book.unmatched[tensor.name] = tensor.bytes
    return book.close()


def _in_loading_order(stored: Mapping[str, StoredTensor]) -> Iterable[StoredTensor]:
    """The order in which transformers 5 walks a checkpoint."""
    from transformers.core_model_loading import dot_natural_key

    return (stored[name] for name in sorted(stored, key=dot_natural_key))


class _Skeleton:
    """The names of a skeleton: all of them, and the first of each tied group."""

    def __init__(self, model: nn.Module) -> None:
        self.numel: dict[str, int] = {}
        self._first_name: dict[str, str] = {}
        first_by_id: dict[int, str] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            first = first_by_id.setdefault(id(parameter), name)
            self._first_name[name] = first
            if first == name:
                self.numel[name] = parameter.numel()
        self.buffers = frozenset(name for name, _ in model.named_buffers())
        self.known = self.buffers.union(self._first_name)

    def first_name(self, name: str) -> str:
        """The name under which a (tied) parameter counts."""
        return self._first_name.get(name, name)


class _Book:
    """Collects stored bytes by parameter."""

    def __init__(self, skeleton: _Skeleton) -> None:
        self._skeleton = skeleton
        self._bytes: dict[str, int] = {}
        self._packed: set[str] = set()
        self._buffers: dict[str, int] = {}
        self._entered_as: dict[str, str] = {}
        self.unmatched: dict[str, int] = {}

    def enter(self, tensor: StoredTensor, targets: tuple[str, ...], *, packed: bool) -> None:
        """Enter a tensor; one that is split over several parameters, by their elements."""
        shares = [self._skeleton.numel.get(self._skeleton.first_name(t), 0) for t in targets]
        total = sum(shares)
        for target, share in zip(targets, shares, strict=True):
            part = tensor.bytes * share // total if total else tensor.bytes // len(targets)
            self._enter_one(target, part, packed)

    def _enter_one(self, target: str, num_bytes: int, packed: bool) -> None:
        if target in self._skeleton.buffers:
            self._buffers[target] = self._buffers.get(target, 0) + num_bytes
            return
        first = self._skeleton.first_name(target)
        # A tied parameter may be stored under each of its names: the first one counts.
        if self._entered_as.setdefault(first, target) != target:
            return
        self._bytes[first] = self._bytes.get(first, 0) + num_bytes
        if packed:
            self._packed.add(first)

    def close(self) -> StoredSizes:
        missing = tuple(name for name in self._skeleton.numel if name not in self._bytes)
        return StoredSizes(
            bytes=self._bytes,
            packed=frozenset(self._packed),
            buffers=self._buffers,
            unmatched=self.unmatched,
            missing=missing,
        )
