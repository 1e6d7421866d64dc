"""Activations that return to a GPU they have left.

What it does:
    Follows every stack of layers in the order in which it runs, and looks for devices that come
    back after another one.

Why it breaks:
    Nothing breaks; the hidden states cross between the GPUs more often than they need to, in every
    forward, and each crossing waits for the one before.

Example:
    device_map:
      model.layers.0: 0
      model.layers.1: 1
      model.layers.2: 0
      model.layers.3: 1

Use instead:
    device_map:
      model.layers.0: 0
      model.layers.1: 0
      model.layers.2: 1
      model.layers.3: 1

Limits:
    The fix keeps the number of layers on each GPU; where that does not fit, it is a note. The
    way to the head and back to the main device is not counted, nor are layers that are offloaded
    first or last of a stack: they run on the main device.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from devplan.core import OFFLOAD_DEVICES, Block, Finding, Fix, Severity, format_bytes
from devplan.rules.context import CheckContext
from devplan.rules.loads import fits_after

SEVERITY = Severity.WARNING


def check(context: CheckContext) -> Iterator[Finding]:
    stacks: dict[str, list[Block]] = {}
    for block in context.structure.graph.blocks:
        if block.stack is not None and len(context.devices_inside(block.name)) == 1:
            stacks.setdefault(block.stack, []).append(block)
    for stack, blocks in stacks.items():
        blocks = _without_offloaded_ends(context, blocks)
        devices = [_device(context, block) for block in blocks]
        runs = [device for device, _ in groupby(devices)]
        needed = len(set(runs)) - 1
        if len(runs) - 1 > needed:
            yield _finding(context, stack, blocks, len(runs) - 1, needed)


def _without_offloaded_ends(context: CheckContext, blocks: list[Block]) -> list[Block]:
    """The layers less those that are offloaded first and last of all.

    They run on the main device, where the embedding before them and the head behind them are: what
    they cross for has to cross anyway.
    """
    lies = [context.device_of(block.name) not in OFFLOAD_DEVICES for block in blocks]
    if not any(lies):
        return []
    return blocks[lies.index(True) : len(lies) - lies[::-1].index(True)]


def _device(context: CheckContext, block: Block) -> str:
    """Where a block is computed."""
    return context.execution_device(context.device_of(block.name))


def _finding(
    context: CheckContext, stack: str, blocks: list[Block], crossings: int, needed: int
) -> Finding:
    changed = _in_one_run_each(context, blocks)
    fits = fits_after(context, changed)
    per_token = max(block.input_bytes_per_token for block in blocks)
    size = f" of {format_bytes(per_token)} per token" if per_token else ""
    first = next(iter(changed))
    return Finding(
        code="DP206",
        severity=SEVERITY if fits else Severity.NOTE,
        message=f"the layers of {stack} cross between GPUs {crossings} times{size}; {needed} "
        "would do",
        module=first,
        entry=context.entry_of(first),
        fix=Fix(
            text="give each GPU one run of layers"
            if fits
            else "with these GPUs, the same number of layers in one run each does not fit",
            changed_entries=changed if fits else {},
        ),
    )


def _in_one_run_each(context: CheckContext, blocks: list[Block]) -> dict[str, str]:
    """Layers that change, when every card keeps as many as it has, in one run."""
    devices = [_device(context, block) for block in blocks]
    order = sorted(devices, key=list(dict.fromkeys(devices)).index)
    return {
        block.name: wanted
        for block, device, wanted in zip(blocks, devices, order, strict=True)
        if device != wanted
    }
