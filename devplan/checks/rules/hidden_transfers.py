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

# Modules that receive the same tensors before it is worth a word: a chain over four cards copies
# its hidden states into three modules, and must.
FEWEST_RECEIVERS = 4


def check(subject: Subject) -> Iterator[Diagnostic]:
    for run in subject.runs[:1]:
        for maker, events in _by_maker(run).items():
            if len({event.module for event in events}) >= FEWEST_RECEIVERS:
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
    receivers = len({event.module for event in events})
    device, saved = _better_device(subject, maker, events)
    source = maker or "masks and positions made between the blocks"
    better = f"; on {device} it would be {number - saved}" if device else ""
    return Diagnostic(
        code="DP305",
        severity=Severity.WARNING if device else Severity.NOTE,
        message=f"{source}: {counted(number, 'copy')} of {format_bytes(size)} in one forward, into "
        f"{receivers} modules{better}",
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
    """Where the maker would need fewer copies, and how many fewer; None where nowhere."""
    if maker is None:
        return None, 0
    copies: dict[str, int] = {}
    for event in events:
        copies[event.target_device] = copies.get(event.target_device, 0) + event.count
    copies_per_module = sum(copies.values()) / len({event.module for event in events})
    home = subject.execution_device(subject.device_of(maker))
    best = max(copies, key=lambda device: copies[device])
    # On another device the copies there fall away, and the modules on the old one need them.
    at_home = _receivers_at(subject, events, home) * copies_per_module
    saved = round(copies[best] - at_home)
    return (best, saved) if saved > 0 and best != home else (None, 0)


def _receivers_at(subject: Subject, events: list[TransferEvent], device: str | None) -> int:
    """Modules of the same stacks that are on a device already, and need no copy."""
    structure = subject.structure
    receiving = {event.module for event in events}
    blocks = {b.name: b for b in structure.graph.blocks}
    stacks = {blocks[name].stack for name in receiving if name in blocks} - {None}
    return sum(
        block.stack in stacks
        and block.name not in receiving
        and subject.execution_device(subject.device_of(block.name)) == device
        for block in structure.graph.blocks
    )
