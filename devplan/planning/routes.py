"""The ways that activations take through the blocks, and what they cost.

The *route* is the way of the main run: the embedding, the layers, the norm, the head, and whatever
else receives activations on the way.  Towers are walked apart: their inputs enter on the main
device and their output is merged where the embedding is.  Blocks that no run reached and bare
tensors are on no way.  An offloaded block runs on the main device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from devplan.core import (
    OFFLOAD_DEVICES,
    Block,
    BlockGraph,
    SharedCopies,
    Stage,
    Transfer,
    is_inside,
    parent,
)

BARE_TENSORS = ("Parameter", "Buffer")
"""Class names of blocks that are no modules."""


def tower_modules(graph: BlockGraph) -> tuple[str, ...]:
    """The modules that hold towers with all that belongs to them.

    For the stack ``model.visual.blocks`` that is ``model.visual``: the outermost module around it
    that holds no layer of the main run, no embedding and no head.  A declared class that is no
    element of a list (``model.audio_tower``) is a stack of its own, named after what is around it,
    and a tower by itself.
    """
    text = [block.name for block in graph.blocks if block.stage_bound]
    text += [name for name in (graph.embedding, graph.head) if name]
    found = []
    for stack in graph.towers:
        is_around = any(is_inside(name, stack) for name in text)
        alone = [block.name for block in graph.blocks if block.stack == stack]
        found += alone if is_around else [_outermost_without(stack, text)]
    return tuple(dict.fromkeys(found))


def _outermost_without(module: str, names: Sequence[str]) -> str:
    around = parent(module)
    while around and not any(is_inside(name, around) for name in names):
        module, around = around, parent(around)
    return module


def route(graph: BlockGraph) -> tuple[Block, ...]:
    """The blocks of the main run that receive activations, in execution order."""
    towers = tower_modules(graph)
    ends = (graph.embedding, graph.head)
    return tuple(
        block
        for block in executed(graph)
        if (block.stage_bound or block.name in ends or block.input_bytes_per_token)
        and not any(is_inside(block.name, tower) for tower in towers)
    )


def executed(graph: BlockGraph) -> tuple[Block, ...]:
    """The modules that a run reached, in execution order."""
    unreached = set(graph.unexecuted)
    return tuple(
        block
        for block in graph.blocks
        if block.name not in unreached and block.class_name not in BARE_TENSORS
    )


def execution_device(device: str, main_device: str) -> str:
    """Where a block placed on `device` runs."""
    return main_device if device in OFFLOAD_DEVICES else device


def stages_of(graph: BlockGraph, placement: Mapping[str, str]) -> tuple[Stage, ...]:
    """Runs of executed blocks that lie on one device, in execution order."""
    runs = groupby(executed(graph), key=lambda block: placement[block.name])
    return tuple(
        Stage(device=device, blocks=tuple(block.name for block in blocks))
        for device, blocks in runs
    )


def transfers_of(
    graph: BlockGraph, placement: Mapping[str, str], main_device: str
) -> tuple[Transfer, ...]:
    """Every change of device along the route and along each tower."""

    def device_of(block: Block) -> str:
        return execution_device(placement[block.name], main_device)

    found = list(_changes(route(graph), device_of, None))
    for tower in tower_modules(graph):
        blocks = [block for block in executed(graph) if is_inside(block.name, tower)]
        found += _changes(blocks, device_of, main_device)
        merge = graph.block(graph.embedding) if graph.embedding else None
        if blocks and merge and device_of(merge) != device_of(blocks[-1]):
            found.append(
                _transfer(device_of(blocks[-1]), device_of(merge), merge, hidden_bytes(graph))
            )
    return tuple(found)


def shared_copies_of(
    graph: BlockGraph, placement: Mapping[str, str], main_device: str
) -> tuple[SharedCopies, ...]:
    """Copies of shared activations to blocks that run elsewhere than where these are made."""
    counted: dict[tuple[str, str], tuple[int, int]] = {}
    for block in graph.blocks:
        target = execution_device(placement[block.name], main_device)
        for item in block.shared_inputs:
            made_by = placement.get(item.maker, main_device) if item.maker else main_device
            source = execution_device(made_by, main_device)
            if source != target:
                copies, num_bytes = counted.get((source, target), (0, 0))
                counted[source, target] = (copies + 1, num_bytes + item.bytes_per_token)
    return tuple(
        SharedCopies(source=source, target=target, num_copies=copies, bytes_per_token=num_bytes)
        for (source, target), (copies, num_bytes) in counted.items()
    )


def _changes(blocks: Sequence[Block], device_of, entry: str | None) -> Iterator[Transfer]:
    device = entry
    for block in blocks:
        target = device_of(block)
        if device not in (None, target):
            yield _transfer(device, target, block, block.input_bytes_per_token)
        device = target


def _transfer(source: str, target: str, block: Block, bytes_per_token: int) -> Transfer:
    return Transfer(
        source=source, target=target, before=block.name, bytes_per_token=bytes_per_token
    )


def hidden_bytes(graph: BlockGraph) -> int:
    """Bytes of one token's hidden state: what enters the first layer."""
    layers = (block.input_bytes_per_token for block in graph.blocks if block.stage_bound)
    return next(layers, 0)
