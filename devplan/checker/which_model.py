"""Which model of the catalogue a map fits, for the message that it fits not this one.

A map that lists layers says how many there are; the catalogue's configurations say who has that
many.  Only these are built, so that the answer takes seconds.  A map without numbers would fit
many, and is not looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from devplan.catalog import load_models
from devplan.core import InputError, parse_whole
from devplan.models import build_skeleton, resolve
from devplan.sandbox import exclusively


@exclusively
def fitting_model(keys: Iterable[str]) -> str | None:
    """The first model of the catalogue that has all modules of a map; None where none has."""
    keys = [key for key in keys if key]
    num_layers = _longest_stack(keys)
    if num_layers < 2:
        return None
    for entry in load_models():
        may_fit = entry.library == "transformers" and num_layers in _numbers(entry.config)
        if may_fit and _has_all(entry.id, keys):
            return entry.id
    return None


def _longest_stack(keys: Iterable[str]) -> int:
    """Layers of the longest stack that the map lists, by its highest number."""
    numbers = (parse_whole(part) for key in keys for part in key.split(".") if part.isdecimal())
    return max(numbers, default=-1) + 1


def _numbers(config: Any) -> Iterator[int]:
    """Every integer of a configuration, at any depth."""
    if isinstance(config, Mapping):
        for value in config.values():
            yield from _numbers(value)
    elif isinstance(config, int) and not isinstance(config, bool):
        yield config


def _has_all(model_id: str, keys: Iterable[str]) -> bool:
    try:
        model = build_skeleton(resolve(model_id)).model
    except InputError:  # the installed release does not have the class
        return False
    return all(_has(model, key) for key in keys)


def _has(model: nn.Module, name: str) -> bool:
    found: Any = model
    for part in name.split("."):
        found = getattr(found, "_modules", {}).get(part) if found is not None else None
    return found is not None
