"""Activations that return to a card they have left.

What it does:
    Follows every stack of layers in the order in which it runs, and looks for devices that come
    back after another one.

Why it breaks:
    Nothing breaks; the hidden states cross between the cards more often than they need to, in every
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
    The remedy keeps the number of layers on each card; where layers differ in size, look at DP101
    again. The way to the head and back to the main device is not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from devplan.checks.subject import Subject
from devplan.findings import Diagnostic, Severity
from devplan.types import Block
from devplan.units import format_bytes

SEVERITY = Severity.WARNING


def check(subject: Subject) -> Iterator[Diagnostic]:
    stacks: dict[str, list[Block]] = {}
    for block in subject.structure.graph.blocks:
        if block.stack is not None and len(subject.devices_inside(block.name)) == 1:
            stacks.setdefault(block.stack, []).append(block)
    for stack, blocks in stacks.items():
        devices = [_device(subject, block) for block in blocks]
        runs = [device for device, _ in groupby(devices)]
        needed = len(set(runs)) - 1
        if len(runs) - 1 > needed:
            yield _finding(subject, stack, blocks, len(runs) - 1, needed)


def _device(subject: Subject, block: Block) -> str:
    """Where a block is computed."""
    return subject.execution_device(subject.device_of(block.name))


def _finding(
    subject: Subject, stack: str, blocks: list[Block], crossings: int, needed: int
) -> Diagnostic:
    changed = _in_one_run_each(subject, blocks)
    per_token = max(block.input_bytes_per_token for block in blocks)
    size = f" of {format_bytes(per_token)} per token" if per_token else ""
    first = next(iter(changed))
    return Diagnostic(
        code="DP206",
        severity=SEVERITY,
        message=f"the layers of {stack} cross between cards {crossings} times{size}; {needed} "
        "would do",
        module=first,
        entry=subject.entry_of(first),
        remedy="give each card one run of layers",
        changed_entries=changed,
    )


def _in_one_run_each(subject: Subject, blocks: list[Block]) -> dict[str, str]:
    """Layers that change, when every card keeps as many as it has, in one run."""
    devices = [_device(subject, block) for block in blocks]
    order = sorted(devices, key=list(dict.fromkeys(devices)).index)
    return {
        block.name: wanted
        for block, device, wanted in zip(blocks, devices, order, strict=True)
        if device != wanted
    }
