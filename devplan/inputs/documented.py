"""Shapes that the docstring of ``forward`` states.

Axes are named by people: what a name means is looked up among the request, the configuration and
what the makers of pictures and sounds know.  A docstring may be wrong: a shape is a form to offer.
"""

from __future__ import annotations

import math
import re

from devplan.inputs.facts import Facts
from devplan.inputs.pictures import image_size, num_channels
from devplan.inputs.sounds import WAVEFORMS, num_bins, num_frames, num_samples

STEPS = 64
"""Of a sequence that is no text."""

_LENGTH = re.compile(r"len|seq|steps|tokens|frames|samples|^time$")
_SIDE = {"height": 0, "width": 1, "image_size": None, "frame_size": None, "img_size": None}
"""What the sides of a picture are called -> which of the two; None: the one that comes next."""


def documented_shapes(facts: Facts, name: str) -> list[tuple[int, ...]]:
    """Shapes of an argument by its docstring: with pictures as stated, then with square ones."""
    axes = facts.documented.get(name)
    if axes is None:
        return []
    height, width = image_size(facts)
    sizes = [(height, width), (min(height, width),) * 2]
    return list(dict.fromkeys(_shape(facts, name, axes, size) for size in sizes))


def _shape(
    facts: Facts, name: str, axes: tuple[str, ...], size: tuple[int, int]
) -> tuple[int, ...]:
    shape: list[int] = []
    for number, axis in enumerate(axes):
        if axis in _SIDE:
            side = _SIDE[axis]
            shape.append(size[number == len(axes) - 1 if side is None else side])
        else:
            factors = [_number(facts, name, factor.strip()) for factor in axis.split("*")]
            shape.append(math.prod(factors))
    return tuple(shape)


def _number(facts: Facts, name: str, axis: str) -> int:
    """What a name of an axis means; 1 where nothing says."""
    if axis.isdecimal():
        return int(axis)
    if "batch" in axis:
        return facts.request.batch
    if axis.endswith("channels"):
        return 1 if name in WAVEFORMS else num_channels(facts)
    if "bins" in axis or "mel" in axis:
        return num_bins(facts)[0]
    stated = facts.setting(axis.rpartition(".")[2])
    if isinstance(stated, int) and not isinstance(stated, bool):
        return stated
    return _length(facts, name) if _LENGTH.search(axis) else 1


def _length(facts: Facts, name: str) -> int:
    if name in WAVEFORMS:
        return num_samples(facts)
    return num_frames(facts)[0] if name.endswith("features") else STEPS
