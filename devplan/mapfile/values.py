"""Kinds of values that many keys of the map file hold."""

from __future__ import annotations

from devplan.core import DEVICE_PATTERN, MAX_INDEX
from devplan.mapfile.shape import Either, Key, Number, Record, Text, Whole

DEVICE = Text(expected="a device such as cuda:0, cpu or disk", pattern=DEVICE_PATTERN)
MODULE = Text(
    expected='a dotted module name, "" for the whole model', pattern=r"^([^.\s]+(\.[^.\s]+)*)?$"
)
HF_DEVICE = Either(
    options=(Whole(maximum=MAX_INDEX), DEVICE),
    expected="a device: 0 for cuda:0, or cpu, disk, xpu:0, ...",
)
BYTES = Whole()
SECONDS = Number()


def record(*keys: tuple[str, str, object]) -> Record:
    """A record of (name, meaning, shape)."""
    return Record(keys=tuple(Key(name=n, meaning=m, shape=s) for n, m, s in keys))
