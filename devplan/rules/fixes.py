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
    joined,
    parent,
    prefixes,
)
from devplan.mapfile import covering_modules
from devplan.rules.context import CheckContext
from devplan.rules.mismatches import is_offloaded, odd_operands


def entries_that_meet(event: MismatchEvent, context: CheckContext) -> Mapping[str, str]:
    """Changed entries after which the operands of a mismatch would be on one device."""
    if is_offloaded(event) and "meta" not in context.device_map.values():
        return _kept_loaded(event, context)
    block = context.structure.block_of(event.module)
    if block is not None and len(context.devices_inside(block)) > 1:
        return joined_on_one_device(context, block)
    exception = exception_around(event.module, context)
    if exception is not None:
        return {exception: context.device_map[exception]}
    home = context.runs_at(event.module)
    odd = odd_operands(event, context)
    named = [o.name for o in odd if o.name in context.structure.tensors]
    if named:
        return _blocks_to(
            context, {context.structure.block_of(name) or name for name in named}, home
        )
    if block is not None:
        return {}
    if is_embedding_away(context):
        return {context.structure.graph.embedding: context.main_device}
    return _makers_to(context, event.module, {operand.device for operand in odd}, home)


def _kept_loaded(event: MismatchEvent, context: CheckContext) -> dict[str, str]:
    """Blocks of the weights that were read on meta, to where the code runs that read them."""
    names = [o.name for o in event.operands if o.device == "meta"]
    known = [name for name in names if name in context.structure.tensors]
    blocks = {context.structure.block_of(name) or name for name in known}
    # [hooks] are those of modules: a tensor of a module that is placed goes with it.
    hooked = {parent(b) if context.is_hooked(parent(b)) else b for b in blocks & set(known)}
    return _blocks_to(context, blocks - set(known) | hooked, context.runs_at(event.module))


def entry_behind(
    event: MismatchEvent, changed: Mapping[str, str], context: CheckContext
) -> Entry | None:
    """The entry that put the odd tensor where it is; `changed` is what would repair it."""
    odd = odd_operands(event, context)
    named = [o.name for o in odd if o.name in context.structure.tensors]
    for name in (*named, *changed, event.module):
        entry = context.entry_of(name)
        if entry is not None:
            return entry
    devices = {operand.device for operand in odd}
    entries = (e for e in context.entries.values() if e.device in devices)
    return next(iter(entries), None)


def exception_around(module: str, context: CheckContext) -> str | None:
    """The entry around a module that is an exception in another, and has parts of its own."""
    key = next((p for p in prefixes(module) if p in context.entries), None)
    if not key or not _has_parts(key, context):
        return None
    outer = context.device_of(parent(key))
    return None if outer in (None, context.device_map[key]) else key


def offload_exceptions(context: CheckContext) -> dict[str, str]:
    """Entries inside others of which one is offloaded and one is not, or is elsewhere."""
    found = {}
    for key, device in context.device_map.items():
        outer = context.device_of(parent(key)) if key else None
        devices = {device, outer}
        if outer is not None and len(devices) == 2 and devices & set(OFFLOAD_DEVICES):
            found[key] = device
    return found


def _has_parts(module: str, context: CheckContext) -> bool:
    own = (joined(module, name) for name in context.structure.children.get(module, ()))
    return any(context.devices_inside(name) for name in own if name in context.structure.modules)


def spelled_out(
    changed: Mapping[str, str], context: CheckContext
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """A repair in entries that load and run, and the entries that it takes away.

    Parameters
    ----------
    changed
        Entry -> device.
    """
    entries = dict(context.device_map)
    for key, device in changed.items():
        outer = find_entry(entries, parent(key)) if key else None
        while outer is not None and _is_in_the_way(key, {device, entries[outer]}, context):
            if entries[outer] in OFFLOAD_DEVICES:
                key = _without_own_tensors(outer, key, context)
            if key == outer:
                break
            entries = _without(outer, key, entries, context)
            outer = find_entry(entries, parent(key)) if key else None
        entries[key] = device
    gone = tuple(key for key in context.device_map if key not in entries)
    new = {k: d for k, d in entries.items() if context.device_map.get(k) != d or k in changed}
    return new, gone


def _is_in_the_way(key: str, devices: set[str], context: CheckContext) -> bool:
    """Whether an entry may not be an exception in another; a module without parts may, on cards."""
    if len(devices) == 1:
        return False
    is_leaf = key in context.structure.modules and not _has_parts(key, context)
    return not is_leaf or bool(devices & set(OFFLOAD_DEVICES))


def _without_own_tensors(outer: str, key: str, context: CheckContext) -> str:
    """The outermost module on the way to `key` with tensors of its own, else `key`.

    An offloaded tensor that only an entry of its own names has no hook that brings it.
    """
    way = list(prefixes(key))
    for module in reversed(way[: way.index(outer) + 1]):
        names = (joined(module, name) for name in context.structure.children.get(module, ()))
        if any(name in context.structure.tensors for name in names):
            return module
    return key


def _without(
    outer: str, key: str, entries: Mapping[str, str], context: CheckContext
) -> dict[str, str]:
    """The entries with everything beside `key` in place of the entry around it."""
    found: dict[str, str] = {}
    for name, device in entries.items():
        if name != outer:
            found[name] = device
            continue
        way = outer
        while way != key:
            inside = [joined(way, child) for child in context.structure.children[way]]
            way = next(name for name in inside if is_inside(key, name))
            beside = (name for name in inside if name != way and context.devices_inside(name))
            found |= {name: device for name in beside if name not in entries}
    return found


def is_embedding_away(context: CheckContext) -> bool:
    """Whether the input embedding is computed off the main device."""
    embedding = context.structure.graph.embedding
    placed = None if embedding is None else context.device_of(embedding)
    return context.execution_device(placed) not in (None, context.main_device)


def joined_on_one_device(context: CheckContext, module: str) -> dict[str, str]:
    """Entries that put all of a module on the device that holds the most of it."""
    held: dict[str, int] = {}
    for tensor in context.structure.tensors.values():
        device = context.device_of(tensor.name)
        if device is not None and is_inside(tensor.name, module):
            held[device] = held.get(device, 0) + tensor.num_bytes
    device = max(held, key=lambda each: held[each])
    inside = {
        key: device
        for key, value in context.device_map.items()
        if is_inside(key, module) and value != device
    }
    return inside if context.device_of(module) in (device, None) else {module: device, **inside}


def _blocks_to(context: CheckContext, names: Iterable[str], device: str) -> dict[str, str]:
    moved = {name: device for name in names if context.device_of(name) != device}
    return dict(sorted(moved.items()))


def _makers_to(
    context: CheckContext, module: str, odd_devices: set[str], home: str
) -> dict[str, str]:
    """Blocks between the layers, on the odd devices, to where the code runs."""
    graph = context.structure.graph
    first_layer = next((i for i, b in enumerate(graph.blocks) if b.stage_bound), len(graph.blocks))
    chosen = {
        index: block.name
        for index, block in enumerate(graph.blocks)
        if not block.stage_bound
        and is_inside(block.name, module)
        and context.device_of(block.name) in odd_devices - {home}
    }
    # [before the layers] masks, positions and features meet there; norm and head come after.
    before = [name for index, name in chosen.items() if index < first_layer]
    moved = before or list(chosen.values())
    return {name: home for name in covering_modules(moved, graph.names)}
