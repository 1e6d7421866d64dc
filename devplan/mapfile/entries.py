"""From a placement to the entries of a map, and back.

A placement names every block of the model.  A map may name a module instead, and then speaks
for all that lies inside it: ``model.visual: 0`` says what 35 lines say.  `contract_entries`
finds the shortest map, `expand_entries` is its inverse.

A module becomes one entry only when *all* blocks inside it lie on one device; the placement is
the complete list of blocks, so nothing that must stay split is ever joined.  A stack of layers
that spans two cards therefore keeps one line per layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from devplan.core import InputError, Placement, find_entry, prefixes


def contract_entries(placement: Placement) -> dict[str, str]:
    """The shortest map without overlaps that places every block as `placement` does.

    Parameters
    ----------
    placement
        Device of every block of the model; the order of the blocks becomes that of the entries.

    Returns
    -------
    dict
        Entry -> device; ``{"": device}`` when the whole model lies on one.

    Examples
    --------
    >>> contract_entries({"a.0": "cuda:0", "a.1": "cuda:0", "b": "cuda:1"})
    {'a': 'cuda:0', 'b': 'cuda:1'}
    """
    inside = _devices_inside(placement)
    entries: dict[str, str] = {}
    for block, device in placement.items():
        outermost_first = reversed(list(prefixes(block)))
        # A block around other blocks (rare) may disagree with them: it still gets its own line.
        entry = next((name for name in outermost_first if inside[name] == {device}), block)
        entries[entry] = device
    return entries


def _devices_inside(placement: Placement) -> dict[str, set[str]]:
    """The devices of all blocks inside each module, the whole model ("") among them."""
    inside: dict[str, set[str]] = {}
    for block, device in placement.items():
        for module in prefixes(block):
            inside.setdefault(module, set()).add(device)
    return inside


def expand_entries(device_map: Mapping[str, str], block_names: Iterable[str]) -> dict[str, str]:
    """Device of every block under a map, the longest entry around it deciding.

    Raises
    ------
    InputError
        When a block has no entry, or an entry splits a block over two devices.
    """
    placement: dict[str, str] = {}
    for block in block_names:
        entry = find_entry(device_map, block)
        if entry is None:
            raise InputError(f"device_map has no entry for {block!r}; add one, or one around it")
        placement[block] = device_map[entry]
    _refuse_split_blocks(device_map, placement)
    return placement


def _refuse_split_blocks(device_map: Mapping[str, str], placement: Placement) -> None:
    for entry, device in device_map.items():
        block = find_entry(placement, entry)
        if block is not None and placement[block] != device:
            raise InputError(
                f"device_map splits {block!r}: it lies on {placement[block]}, its part {entry!r} "
                f"on {device}; give both one device"
            )


def covering_modules(names: Iterable[str], block_names: Iterable[str]) -> list[str]:
    """The fewest modules that hold exactly the blocks `names`, out of all `block_names`."""
    chosen = set(names)
    marked = {block: "in" if block in chosen else "out" for block in block_names}
    return [entry for entry, mark in contract_entries(marked).items() if mark == "in"]
