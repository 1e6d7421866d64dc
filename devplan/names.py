"""Dotted module names: the only prefix comparison in devplan.

``a.layers.1`` is inside ``a.layers`` and inside ``a.layers.1``, but not inside ``a.layers.10``;
everything is inside the empty name, which is the whole model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


def is_inside(name: str, module: str) -> bool:
    """Whether `name` is `module` itself or lies inside it."""
    return not module or name == module or name.startswith(module + ".")


def parent(name: str) -> str:
    """The name one level up; the parent of a top-level name is the empty name."""
    return name.rpartition(".")[0]


def prefixes(name: str) -> Iterable[str]:
    """`name` and every module around it, innermost first, the empty name last."""
    yield name
    while name:
        name = parent(name)
        yield name


def find_entry(entries: Mapping[str, Value], name: str) -> str | None:
    """The entry of a device map that governs `name`: the longest that `name` is inside of."""
    return next((prefix for prefix in prefixes(name) if prefix in entries), None)
