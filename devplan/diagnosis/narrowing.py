"""Which modules of a model the frames of a pasted traceback may have been in.

A frame says a class, and a class is at several places.  The frames around it narrow them down: what
runs inside ``LlamaDecoderLayer.forward`` is inside a module of that class.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from devplan.core import is_inside
from devplan.diagnosis.lines import Place


def modules_of(places: Sequence[Place], model: nn.Module) -> tuple[str, ...]:
    """Names of the modules that the innermost frame may have been in; empty: none is known."""
    by_class = _by_class(model)
    within: list[str] = [""]
    found: list[str] = []
    for place in places:
        named = [name for kind in place.classes for name in by_class.get(kind, ())]
        inside = [name for name in named if _is_inside_any(name, within)]
        if inside:
            within = found = inside
    return tuple(found)


def _by_class(model: nn.Module) -> dict[str, list[str]]:
    """Class, or a class that it derives from -> names of modules."""
    found: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        for kind in type(module).__mro__:
            if kind is nn.Module:
                break
            found.setdefault(kind.__name__, []).append(name)
    return found


def _is_inside_any(name: str, within: Iterable[str]) -> bool:
    return any(is_inside(name, outer) for outer in within)
