"""Pins: which blocks must be where, who says so, and which pins give way first.

*User pins* name a block, a module around blocks (all of them are pinned), or something inside a
block (the whole block is pinned, and a note says so).  They always hold.

*Default pins* keep everything that is no layer of the main run on the main device, where the inputs
enter: the embedding, because ids and masks meet there; the head, because the logits are wanted
there; towers and projectors, because their output is merged into the embeddings; and small things
(rotary embeddings, norms, bare tensors), because elsewhere they only cost transfers.

Default pins give way when nothing fits otherwise, in the order of `ladder`: parts that run on their
own after the one that is entered (a talker, a vocoder), towers, then norm and head, then what runs
before the layers, then what no run reached, the embedding last.  A pipeline has one: the component
on whose device it makes its latents, which is mostly the autoencoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from devplan.core import (
    BlockGraph,
    InputError,
    Machine,
    is_inside,
    nearest,
    normalise_device,
    prefixes,
)
from devplan.planning.instance import Units
from devplan.planning.routes import BARE_TENSORS, tower_modules

TOWER, AFTER, BEFORE, ASIDE, EMBEDDING = "tower", "after", "before", "aside", "embedding"
PART, HOME = "part", "home"
LADDER = (PART, TOWER, AFTER, BEFORE, ASIDE, EMBEDDING, HOME)
"""Roles in the order in which their default pins give way."""

REASONS = {
    PART: "it runs on its own after the part that is entered, on what that gave",
    TOWER: "its output is merged into the embeddings",
    AFTER: "it runs after the layers; the logits are wanted where the inputs enter",
    BEFORE: "it runs before the layers, beside the embedding",
    ASIDE: "it is outside every layer that the run walks through",
    EMBEDDING: "the input ids enter here",
    HOME: "the pipeline makes its latents on the device of this component",
}


@dataclass(frozen=True, kw_only=True)
class UserPins:
    """What the user pinned, by unit."""

    devices: Mapping[int, str]
    notes: tuple[str, ...]


def resolve_user_pins(
    pins: Mapping[str, str], graph: BlockGraph, units: Units, machine: Machine
) -> UserPins:
    """The units that the user's pins hold, and where.

    Raises
    ------
    InputError
        Unknown module, unknown device, or two pins that cannot both hold.
    """
    said: dict[str, tuple[str, str]] = {}
    notes = []
    for name, typed in pins.items():
        device = normalise_device(typed, machine)
        blocks = _blocks_named(name, graph)
        if not is_inside(blocks[0], name):
            notes.append(f"{name} is inside the block {blocks[0]}, which is pinned whole")
        for block in blocks:
            _refuse_contradiction(block, (name, device), said.get(block))
            said[block] = (name, device)
    devices: dict[int, str] = {}
    for block, (_, device) in said.items():
        unit = units.of[block]
        if devices.setdefault(unit, device) != device:
            raise InputError(_apart(units.names([unit]), said))
    return UserPins(devices=devices, notes=tuple(notes))


def _blocks_named(name: str, graph: BlockGraph) -> list[str]:
    inside = [block for block in graph.names if is_inside(block, name)]
    around = [prefix for prefix in prefixes(name) if prefix in set(graph.names)]
    if not inside and not around:
        known = dict.fromkeys(module for block in graph.names for module in prefixes(block))
        raise InputError(f"no module {name!r} to pin{nearest(name, filter(None, known))}")
    return inside or around[:1]


def _refuse_contradiction(block: str, new: tuple[str, str], old: tuple[str, str] | None) -> None:
    if old is not None and old[1] != new[1]:
        raise InputError(
            f"contradictory pins: {old[0]}={old[1]} and {new[0]}={new[1]} both hold "
            f"{block or 'the model, which is one block'}; drop one of them"
        )


def _apart(names: Iterable[str], said: Mapping[str, tuple[str, str]]) -> str:
    pinned = [f"{name} to {said[name][1]}" for name in names if name in said]
    return (
        f"tied weights pinned apart: {' and '.join(pinned)}, but they share one tensor, which can "
        "lie on one device only; pin both to the same"
    )


def roles(graph: BlockGraph) -> dict[str, str | None]:
    """The role of every block, None for layers of the main run."""
    towers = tower_modules(graph)
    unreached = set(graph.unexecuted)
    found: dict[str, str | None] = {}
    seen_layer = False
    for block in graph.blocks:
        seen_layer = seen_layer or block.stage_bound
        if block.stage_bound:
            role = None
        elif graph.home and is_inside(block.name, graph.home):
            role = HOME
        elif graph.entered and not is_inside(block.name, graph.entered):
            role = PART
        elif block.name == graph.embedding:
            role = EMBEDDING
        elif any(is_inside(block.name, tower) for tower in towers):
            role = TOWER
        elif block.name in unreached or block.class_name in BARE_TENSORS:
            role = ASIDE
        else:
            role = AFTER if seen_layer or block.name == graph.head else BEFORE
        found[block.name] = role
    return found


def default_pins(graph: BlockGraph, units: Units) -> dict[int, str]:
    """The units that belong on the main device, and the role of each.

    A unit of tied blocks has the role that gives way last among its members'.
    """
    role = roles(graph)
    return {
        unit: max((role[block.name] for block in units.blocks[unit]), key=LADDER.index)
        for unit in range(len(units))
        if not units.is_stage_bound(unit)
    }


def ladder(defaults: Mapping[int, str]) -> list[tuple[int, ...]]:
    """Groups of default-pinned units in the order in which they give way."""
    groups = (tuple(u for u, role in defaults.items() if role == rung) for rung in LADDER)
    return [group for group in groups if group]
