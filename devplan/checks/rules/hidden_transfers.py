"""Copies of one tensor into many modules.

What it does:
    Counts the copies that hooks make in one forward, by the block that made the tensor, and reports
    blocks whose output is copied into several modules again and again.

Why it breaks:
    Nothing breaks; it costs. A hook moves every argument of its module, and forgets it afterwards:
    position embeddings that are made on one card and used by the layers of another cross once for
    each of them. device_map="auto" puts rotary_emb on the last card: 91 copies in one forward of a
    72B model. It is a warning where another device needs fewer copies, and a note where none does.

Example:
    device_map:
      model.embed_tokens: 0
      model.layers: 0
      model.norm: 1
      model.rotary_emb: 1
      lm_head: 1

Use instead:
    device_map:
      model.embed_tokens: 0
      model.layers: 0
      model.rotary_emb: 0
      model.norm: 1
      lm_head: 1

Limits:
    Copies that the model's own code asks for are not counted. What is made between the blocks
    (masks, positions) has no entry that could be changed: a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from devplan.checks.places import counted
from devplan.checks.rules.cache_on_wrong_device import CACHE_ARGUMENTS
from devplan.checks.subject import Subject
from devplan.findings import Diagnostic, RunRecord, Severity, TransferEvent
from devplan.units import format_bytes

SEVERITY = Severity.WARNING

# A module may receive several tensors of one maker at once (a list of three vision features);
# layers that receive position embeddings are more: half of the 16 layers of the smallest Llama 3.2.
FEWEST_COPIES = 8


def check(subject: Subject) -> Iterator[Diagnostic]:
    for run in subject.runs[:1]:
        for maker, events in _by_maker(run).items():
            if sum(event.count for event in events) >= FEWEST_COPIES:
                yield _finding(subject, maker, events)


def _by_maker(run: RunRecord) -> Mapping[str | None, list[TransferEvent]]:
    """Copies by hooks in the first phase: one forward."""
    makers: dict[str | None, list[TransferEvent]] = {}
    for event in run.transfers:
        in_first = not run.phases or event.phase == run.phases[0]
        if event.asked_by == "hook" and in_first and event.argument not in CACHE_ARGUMENTS:
            makers.setdefault(event.maker, []).append(event)
    return makers


def _finding(subject: Subject, maker: str | None, events: list[TransferEvent]) -> Diagnostic:
    number = sum(event.count for event in events)
    size = sum(event.count * event.num_bytes for event in events)
    device, fewer = _better_device(subject, maker, events)
    source = maker or "masks and positions made between the blocks"
    better = f"; on {device} it would be {number - fewer}" if device else ""
    return Diagnostic(
        code="DP305",
        severity=Severity.WARNING if device else Severity.NOTE,
        message=f"{source}: {counted(number, 'copy')}, {format_bytes(size)}, in one forward"
        f"{better}",
        module=maker,
        entry=None if maker is None else subject.entry_of(maker),
        remedy=f"put {maker} on {device}"
        if device
        else "unavoidable with this split; fewer cards, or more layers on the device where it is "
        "made, mean fewer copies",
        changed_entries={maker: device} if device else {},
        count=number,
    )


def _better_device(
    subject: Subject, maker: str | None, events: list[TransferEvent]
) -> tuple[str | None, int]:
    """Where the maker would need fewer copies, and how many fewer; None where nowhere.

    Every layer of the receiving stacks that is away from the maker needs the same copies.
    """
    if maker is None:
        return None, 0
    home = subject.execution_device(subject.device_of(maker))
    layers = _layers_by_device(subject, {event.module for event in events})
    away = sum(number for device, number in layers.items() if device != home)
    if not away:
        return None, 0
    copies_per_layer = sum(event.count for event in events) / away
    best = max(layers, key=lambda device: layers[device])
    fewer = round((layers[best] - layers.get(home, 0)) * copies_per_layer)
    return (best, fewer) if fewer > 0 else (None, 0)


def _layers_by_device(subject: Subject, receiving: set[str]) -> Mapping[str, int]:
    """How many layers of the stacks that receive something are on each device."""
    structure = subject.structure
    names = {structure.block_of(module) for module in receiving} - {None}
    stacks = {structure.graph.block(name).stack for name in names} - {None}
    layers: dict[str, int] = {}
    for block in structure.graph.blocks:
        device = subject.execution_device(subject.device_of(block.name))
        if block.stack in stacks and device is not None:
            layers[device] = layers.get(device, 0) + 1
    return layers
