"""Tensors of a checkpoint, written short.

A model whose code is remote has no class to instantiate, but its checkpoint has names and shapes,
and these are enough to size and split it.  A pattern stands for many tensors: in
``llm.model.layers.{0..35}.mlp.up_proj.weight`` the braces hold a range of numbers, both ends
included.  Which modules are repeated layers cannot be read off tensor names, so the entry says
it: ``llm.model.layers.*`` -> the class of each, which must not be split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True, kw_only=True)
class TensorSummary:
    """The tensors of one checkpoint, all of one dtype."""

    dtype: str
    shapes: Mapping[str, tuple[int, ...]]
    """Pattern of names -> shape, in the order of the model."""
    layers: Mapping[str, str]
    """Pattern of module names, ``*`` for one number -> class name; never split."""
    buffers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Float32 buffers that the code makes and no checkpoint stores: name -> shape."""

    @classmethod
    def from_entry(cls, raw: Mapping[str, Any]) -> TensorSummary:
        """From the ``tensors``, ``layers`` and ``buffers`` of a catalogue entry."""
        shapes = {pattern: tuple(shape) for pattern, shape in raw["tensors"].items()}
        buffers = {name: tuple(shape) for name, shape in raw.get("buffers", {}).items()}
        return cls(dtype=raw["dtype"], shapes=shapes, layers=raw["layers"], buffers=buffers)

    def expand(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor by name with its shape; patterns over one range stay together by layer.

        Consecutive patterns that share all text up to their range are one stack of layers:
        layer 0 with all its tensors comes before layer 1, as in the model.
        """
        for stack in _stacks(self.shapes):
            bounds = _RANGE.search(stack[0])
            numbers = range(int(bounds[1]), int(bounds[2]) + 1) if bounds else (None,)
            for number in numbers:
                for pattern in stack:
                    yield _RANGE.sub(str(number), pattern), self.shapes[pattern]

    def layer_class(self, module: str) -> str | None:
        """Class of a module that is a repeated layer, None for all others."""
        for pattern, class_name in self.layers.items():
            if fnmatchcase(module, pattern) and module.count(".") == pattern.count("."):
                return class_name
        return None


def _stacks(patterns: Mapping[str, Any]) -> list[list[str]]:
    """Patterns in order, those of one stack of layers together."""
    stacks: list[list[str]] = []
    previous = None
    for pattern in patterns:
        bounds = _RANGE.search(pattern)
        stem = pattern[: bounds.end()] if bounds else None
        if stem is not None and stem == previous:
            stacks[-1].append(pattern)
        else:
            stacks.append([pattern])
        previous = stem
    return stacks
