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
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")
# Stand-ins that no real index reaches.
_FIRST_STAND_IN = 90_000_001
_MAX_CACHED_SHAPES = 100_000


class CheckpointNames:
    """Translates names of stored tensors into names of the model.

    Parameters
    ----------
    model
        Skeleton, not quantized.
    known
        Every name that the model has: parameters and buffers, tied ones under all their names.
    """

    def __init__(self, model: nn.Module, known: Iterable[str]) -> None:
        self._known = known if isinstance(known, (dict, set, frozenset)) else frozenset(known)
        self._prefix = getattr(model, "base_model_prefix", "") or ""
        self._renamings, self._converters = conversions(model)
        self._by_pattern = {
            pattern: converter
            for converter in self._converters
            for pattern in converter.source_patterns
        }
        self._legacy = getattr(model, "_checkpoint_conversion_mapping", None) or {}
        self._shapes: dict[str, tuple[str, ...]] = {}

    def targets(self, stored_name: str) -> tuple[str, ...]:
        """Names of the model that a stored tensor goes into; empty where there is none."""
        if stored_name in self._known:
            return (stored_name,)
        numbers = _NUMBER.findall(stored_name)
        found = self._targets_by_shape(stored_name, numbers) if numbers else ()
        return found or self._ask(stored_name)

    def _targets_by_shape(self, stored_name: str, numbers: Sequence[str]) -> tuple[str, ...]:
        stand_ins = [str(_FIRST_STAND_IN + index) for index in range(len(numbers))]
        remaining = iter(stand_ins)
        shape = _NUMBER.sub(lambda _: next(remaining), stored_name)
        if shape not in self._shapes:
            if len(self._shapes) >= _MAX_CACHED_SHAPES:
                self._shapes.clear()
            self._shapes[shape] = self._renamed(shape)
        found = []
        for answer in self._shapes[shape]:
            for stand_in, number in zip(stand_ins, numbers, strict=True):
                answer = answer.replace(stand_in, number)
            found.append(answer)
        return self._settled(found)

    def _ask(self, stored_name: str) -> tuple[str, ...]:
        return self._settled(self._renamed(stored_name))

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

    def _settled(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names with the base-model prefix added or removed, where that makes them known."""
        found = [self._with_prefix(name) for name in names]
        return tuple(name for name in found if name is not None)

    def _with_prefix(self, name: str) -> str | None:
        if name in self._known:
            return name
        if not self._prefix:
            return None
        inner = name.removeprefix(f"{self._prefix}.")
        return next((n for n in (inner, f"{self._prefix}.{name}") if n in self._known), None)


def conversions(model: nn.Module) -> tuple[list[Any], list[Any]]:
    """Renamings and converters of a model's class; both empty before transformers 5."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter
    except ImportError:
        return [], []
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
    return (names, undone) if undone != names else (names,)


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
