"""Dotted module names: the only prefix comparison in devplan.

``a.layers.1`` is inside ``a.layers`` and inside ``a.layers.1``, but not inside ``a.layers.10``;
everything is inside the empty name, which is the whole model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from devplan.core.types import DISK

Value = TypeVar("Value")


def is_inside(name: str, module: str) -> bool:
    """Whether `name` is `module` itself or lies inside it."""
    return not module or name == module or name.startswith(module + ".")


def relative(name: str, module: str) -> str:
    """A name inside a module as the module itself has it; the module's own is the empty name."""
    return name[len(module) :].removeprefix(".") if module else name


def joined(module: str, name: str) -> str:
    """The inverse of `relative`: a name of the module's own as the whole model has it."""
    return f"{module}.{name}" if module and name else module or name


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


def part_of_map(device_map: Mapping[str, Value], component: str) -> dict[str, Value]:
    """The map of one component of a pipeline, in names of the component's own.

    Examples
    --------
    >>> part_of_map({"": 0, "vae": 1, "transformer.blocks.3": 1}, "vae")
    {'': 1}
    >>> part_of_map({"": 0, "vae": 1, "transformer.blocks.3": 1}, "transformer")
    {'': 0, 'blocks.3': 1}
    """
    whole = find_entry(device_map, component)
    part = {} if whole is None else {"": device_map[whole]}
    for name, value in device_map.items():
        if name != component and is_inside(name, component):
            part[name.removeprefix(component + ".")] = value
    return part


def component_main(part: Mapping[str, str], main_device: str) -> str:
    """Where the inputs of a component enter: its lowest card; the pipeline's main device where
    something of it is offloaded, and is to run there."""
    offloaded = any(not device.startswith("cuda:") for device in part.values())
    cards = sorted({device for device in part.values() if device.startswith("cuda:")}, key=_number)
    return main_device if offloaded or not cards else cards[0]


def _number(device: str) -> int:
    return int(device.partition(":")[2])


def is_one_device(devices: Iterable[str]) -> bool:
    """Whether a map with these devices needs no hooks: one, and weights on disk come and go."""
    return len(found := set(devices)) == 1 and DISK not in found
