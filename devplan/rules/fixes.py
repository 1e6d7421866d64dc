"""Changed entries that bring tensors together.

What can be changed is the map, not the model's code.  A weight that is read while it is offloaded
is brought to where that code runs.  Else, tried in this order:

1. the op runs inside a block that the map splits: put the block's entries on one device;
2. a named parameter or buffer is on the odd device: move the block that holds it to where the
   code runs;
3. the op runs in code between the blocks, with the input embedding away from the main device:
   move the embedding there, since masks and positions follow it;
4. else the blocks on the odd device that are no layers of a stack, as far as they lie inside the
   module whose code it is: their outputs are what met the tensors of the main device.

Where nothing of this applies, no entry helps and the model's code must move a tensor.

An entry for a part of a module that has an entry itself is an **exception**.  accelerate gives all
that is in the outer module hooks of the outer device, and takes them off the part alone and not off
what is in the part: its first op finds its input on the outer device.  A part of a module that is
offloaded, or an offloaded part, may not even load.  A repair therefore names the parts beside the
exception one by one, and the outer entry goes (`spelled_out`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from devplan.core import (
    OFFLOAD_DEVICES,
    Entry,
    MismatchEvent,
    find_entry,
    is_inside,
    parent,
    prefixes,
)
from devplan.core import joined as joined_name
from devplan.mapfile import covering_modules
from devplan.rules.context import CheckContext
from devplan.rules.mismatches import is_offloaded, odd_operands


def entries_that_meet(event: MismatchEvent, subject: CheckContext) -> Mapping[str, str]:
    """Changed entries after which the operands of a mismatch would be on one device."""
    if is_offloaded(event) and "meta" not in subject.device_map.values():
        return _kept_loaded(event, subject)
    block = subject.structure.block_of(event.module)
    if block is not None and len(subject.devices_inside(block)) > 1:
        return joined(subject, block)
    exception = exception_around(event.module, subject)
    if exception is not None:
        return {exception: subject.device_map[exception]}
    home = subject.runs_at(event.module)
    odd = odd_operands(event, subject)
    named = [o.name for o in odd if o.name in subject.structure.tensors]
    if named:
        return _blocks_to(
            subject, {subject.structure.block_of(name) or name for name in named}, home
        )
    if block is not None:
        return {}
    if is_embedding_away(subject):
        return {subject.structure.graph.embedding: subject.main_device}
    return _makers_to(subject, event.module, {operand.device for operand in odd}, home)


def _kept_loaded(event: MismatchEvent, subject: CheckContext) -> dict[str, str]:
    """Blocks of the weights that were read on meta, to where the code runs that read them."""
    names = [o.name for o in event.operands if o.device == "meta"]
    known = [name for name in names if name in subject.structure.tensors]
    blocks = {subject.structure.block_of(name) or name for name in known}
    # [hooks] are those of modules: a tensor of a module that is placed goes with it.
    hooked = {parent(b) if subject.is_hooked(parent(b)) else b for b in blocks & set(known)}
    return _blocks_to(subject, blocks - set(known) | hooked, subject.runs_at(event.module))


def entry_behind(
    event: MismatchEvent, changed: Mapping[str, str], subject: CheckContext
) -> Entry | None:
    """The entry that put the odd tensor where it is; `changed` is what would repair it."""
    odd = odd_operands(event, subject)
    named = [o.name for o in odd if o.name in subject.structure.tensors]
    for name in (*named, *changed, event.module):
        entry = subject.entry_of(name)
        if entry is not None:
            return entry
    devices = {operand.device for operand in odd}
    entries = (e for e in subject.entries.values() if e.device in devices)
    return next(iter(entries), None)


def exception_around(module: str, subject: CheckContext) -> str | None:
    """The entry around a module that is an exception in another, and has parts of its own."""
    key = next((p for p in prefixes(module) if p in subject.entries), None)
    if not key or not _has_parts(key, subject):
        return None
    outer = subject.device_of(parent(key))
    return None if outer in (None, subject.device_map[key]) else key


def offload_exceptions(subject: CheckContext) -> dict[str, str]:
    """Entries inside others of which one is offloaded and one is not, or is elsewhere."""
    found = {}
    for key, device in subject.device_map.items():
        outer = subject.device_of(parent(key)) if key else None
        devices = {device, outer}
        if outer is not None and len(devices) == 2 and devices & set(OFFLOAD_DEVICES):
            found[key] = device
    return found


def _has_parts(module: str, subject: CheckContext) -> bool:
    own = (joined_name(module, name) for name in subject.structure.children.get(module, ()))
    return any(subject.devices_inside(name) for name in own if name in subject.structure.modules)


def spelled_out(
    changed: Mapping[str, str], subject: CheckContext
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """A repair in entries that load and run, and the entries that it takes away.

    Parameters
    ----------
    changed
        Entry -> device.
    """
    entries = dict(subject.device_map)
    for key, device in changed.items():
        outer = find_entry(entries, parent(key)) if key else None
        while outer is not None and _is_in_the_way(key, {device, entries[outer]}, subject):
            if entries[outer] in OFFLOAD_DEVICES:
                key = _without_own_tensors(outer, key, subject)
            if key == outer:
                break
            entries = _without(outer, key, entries, subject)
            outer = find_entry(entries, parent(key)) if key else None
        entries[key] = device
    gone = tuple(key for key in subject.device_map if key not in entries)
    new = {k: d for k, d in entries.items() if subject.device_map.get(k) != d or k in changed}
    return new, gone


def _is_in_the_way(key: str, devices: set[str], subject: CheckContext) -> bool:
    """Whether an entry may not be an exception in another; a module without parts may, on cards."""
    if len(devices) == 1:
        return False
    is_leaf = key in subject.structure.modules and not _has_parts(key, subject)
    return not is_leaf or bool(devices & set(OFFLOAD_DEVICES))


def _without_own_tensors(outer: str, key: str, subject: CheckContext) -> str:
    """The outermost module on the way to `key` with tensors of its own, else `key`.

    An offloaded tensor that only an entry of its own names has no hook that brings it.
    """
    way = list(prefixes(key))
    for module in reversed(way[: way.index(outer) + 1]):
        names = (joined_name(module, name) for name in subject.structure.children.get(module, ()))
        if any(name in subject.structure.tensors for name in names):
            return module
    return key


def _without(
    outer: str, key: str, entries: Mapping[str, str], subject: CheckContext
) -> dict[str, str]:
    """The entries with everything beside `key` in place of the entry around it."""
    found: dict[str, str] = {}
    for name, device in entries.items():
        if name != outer:
            found[name] = device
            continue
        way = outer
        while way != key:
            inside = [joined_name(way, child) for child in subject.structure.children[way]]
            way = next(name for name in inside if is_inside(key, name))
            beside = (name for name in inside if name != way and subject.devices_inside(name))
            found |= {name: device for name in beside if name not in entries}
    return found


def is_embedding_away(subject: CheckContext) -> bool:
    """Whether the input embedding is computed off the main device."""
    embedding = subject.structure.graph.embedding
    placed = None if embedding is None else subject.device_of(embedding)
    return subject.execution_device(placed) not in (None, subject.main_device)


def joined(subject: CheckContext, module: str) -> dict[str, str]:
    """Entries that put all of a module on the device that holds the most of it."""
    held: dict[str, int] = {}
    for tensor in subject.structure.tensors.values():
        device = subject.device_of(tensor.name)
        if device is not None and is_inside(tensor.name, module):
            held[device] = held.get(device, 0) + tensor.num_bytes
    device = max(held, key=lambda each: held[each])
    inside = {
        key: device
        for key, value in subject.device_map.items()
        if is_inside(key, module) and value != device
    }
    return inside if subject.device_of(module) in (device, None) else {module: device, **inside}


def _blocks_to(subject: CheckContext, names: Iterable[str], device: str) -> dict[str, str]:
    moved = {name: device for name in names if subject.device_of(name) != device}
    return dict(sorted(moved.items()))


def _makers_to(
    subject: CheckContext, module: str, odd_devices: set[str], home: str
) -> dict[str, str]:
    """Blocks between the layers, on the odd devices, to where the code runs."""
    graph = subject.structure.graph
    first_layer = next((i for i, b in enumerate(graph.blocks) if b.stage_bound), len(graph.blocks))
    chosen = {
        index: block.name
        for index, block in enumerate(graph.blocks)
        if not block.stage_bound
        and is_inside(block.name, module)
        and subject.device_of(block.name) in odd_devices - {home}
    }
    # [before the layers] masks, positions and features meet there; norm and head come after.
    before = [name for index, name in chosen.items() if index < first_layer]
    moved = before or list(chosen.values())
    return {name: home for name in covering_modules(moved, graph.names)}
