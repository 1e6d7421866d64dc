"""Changed entries that bring tensors together.

What can be changed is the map, not the model's code.  Tried in this order:

1. the op runs inside a block that the map splits: put the block's entries on one device;
2. a named parameter or buffer is on the odd device: move the block that holds it to where the
   code runs;
3. the op runs in code between the blocks, with the input embedding away from the main device:
   move the embedding there, since masks and positions follow it;
4. else the blocks on the odd device that are no layers of a stack, as far as they lie inside the
   module whose code it is: their outputs are what met the tensors of the main device.

Where nothing of this applies, no entry helps and the model's code must move a tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from devplan.checks.mismatches import odd_operands
from devplan.checks.subject import Subject
from devplan.findings import MapEntry, MismatchEvent
from devplan.mapfile.entries import contract_entries, covering_modules
from devplan.names import is_inside


def entries_that_meet(event: MismatchEvent, subject: Subject) -> Mapping[str, str]:
    """Changed entries after which the operands of a mismatch would be on one device."""
    block = subject.structure.block_of(event.module)
    if block is not None and len(subject.devices_inside(block)) > 1:
        return joined(subject, block)
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


def entry_behind(
    event: MismatchEvent, changed: Mapping[str, str], subject: Subject
) -> MapEntry | None:
    """The entry that put the odd tensor where it is; `changed` is what would repair it."""
    odd = odd_operands(event, subject)
    named = [o.name for o in odd if o.name in subject.structure.tensors]
    for name in (*named, *changed, event.module):
        entry = subject.entry_of(name)
        if entry is not None:
            return entry
    devices = {operand.device for operand in odd}
    entries = (e for e in subject.entries.values() if e.device in devices)
    return next((subject.given.map_entry(entry) for entry in entries), None)


def is_embedding_away(subject: Subject) -> bool:
    """Whether the input embedding is computed off the main device."""
    embedding = subject.structure.graph.embedding
    if embedding is None:
        return False
    device = subject.execution_device(subject.device_of(embedding))
    return device is not None and device != subject.main_device


def joined(subject: Subject, module: str) -> dict[str, str]:
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


def move(subject: Subject, block: str, device: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Entries that put a block on a device, and those to drop for it.

    An entry around the block is written out: accelerate gives all inside it hooks of its device,
    whatever a longer entry says.
    """
    entry = subject.entry_of(block)
    if entry is None or entry.key == block:
        return {block: device}, ()
    inside = [name for name in subject.structure.graph.names if is_inside(name, entry.key)]
    placement = {name: subject.device_of(name) or entry.device for name in inside}
    return contract_entries({**placement, block: device}), (entry.key,)


def _blocks_to(subject: Subject, names: Iterable[str], device: str) -> dict[str, str]:
    moved = {name: device for name in names if subject.device_of(name) != device}
    return dict(sorted(moved.items()))


def _makers_to(subject: Subject, module: str, odd_devices: set[str], home: str) -> dict[str, str]:
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
