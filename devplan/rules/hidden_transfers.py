"""Copies of one tensor into many modules.

What it does:
    Counts the copies that hooks make in one forward, by the block that made the tensor, and reports
    blocks whose output is copied into several modules again and again.

Why it breaks:
    Nothing breaks; it costs. A hook moves every argument of its module, and forgets it afterwards:
    position embeddings that are made on one GPU and used by the layers of another cross once for
    each of them. It is a warning where the block needs fewer copies and no more bytes on another
    GPU, what enters the block counted too; `devplan suggest` then puts it there. Else it is a
    note: some copies are the price of any split. Of two GPUs with 14 and 18 layers the second
    needs fewer copies of position embeddings, but the hidden states of the whole prompt, from
    which rotary_emb reads no more than their dtype, would have to cross to it first.

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
    (masks, positions) has no entry that could be changed: a note. So have the embedding, which
    belongs where the inputs enter (DP205), blocks with tied weights, and layers, which the memory
    of the GPUs distributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from devplan.core import (
    BlockInput,
    Finding,
    Fix,
    RunRecord,
    Severity,
    TransferEvent,
    format_bytes,
    is_inside,
)
from devplan.rules.cache_on_wrong_device import CACHE_ARGUMENTS
from devplan.rules.context import CheckContext
from devplan.rules.fixes import spelled_out
from devplan.rules.loads import fits_after
from devplan.rules.places import counted

SEVERITY = Severity.WARNING

# A module may receive several tensors of one maker at once (a list of three vision features);
# layers that receive position embeddings are more: half of the 16 layers of the smallest Llama 3.2.
FEWEST_COPIES = 8

UNAVOIDABLE = (
    "unavoidable with this split; fewer GPUs, or more layers on the device where it is made, mean "
    "fewer copies"
)


def check(context: CheckContext) -> Iterator[Finding]:
    for run in context.runs[:1]:
        for maker, events in _by_maker(run).items():
            if sum(event.count for event in events) >= FEWEST_COPIES:
                yield _finding(context, run, maker, events)


def _by_maker(run: RunRecord) -> Mapping[str | None, list[TransferEvent]]:
    """Copies by hooks in the first phase: one forward."""
    makers: dict[str | None, list[TransferEvent]] = {}
    for event in run.transfers:
        in_first = not run.phases or event.phase == run.phases[0]
        if event.asked_by == "hook" and in_first and event.argument not in CACHE_ARGUMENTS:
            makers.setdefault(event.maker, []).append(event)
    return makers


def _finding(
    context: CheckContext, run: RunRecord, maker: str | None, events: list[TransferEvent]
) -> Finding:
    number = sum(event.count for event in events)
    size = sum(event.count * event.num_bytes for event in events)
    device, fewer = _better_device(context, run, maker)
    source = maker or "masks and positions made between the blocks"
    better = f"; {device} would save {fewer}, what enters it counted" if device else ""
    changed, dropped = spelled_out({maker: device}, context) if device else ({}, ())
    return Finding(
        code="DP305",
        severity=Severity.WARNING if device else Severity.NOTE,
        message=f"{source}: {counted(number, 'copy')}, {format_bytes(size)}, in one forward"
        f"{better}",
        module=maker,
        entry=None if maker is None else context.entry_of(maker),
        fix=Fix(
            text=f"put {maker} on {device}" if device else UNAVOIDABLE,
            changed_entries=changed,
            dropped_entries=dropped,
        ),
        count=number,
    )


@dataclass(frozen=True, kw_only=True)
class _Copies:
    """Copies that a block's place costs: of what it gives, and of what it takes."""

    number: int = 0
    num_bytes: int = 0

    def __sub__(self, other: _Copies) -> _Copies:
        return _Copies(
            number=self.number - other.number, num_bytes=self.num_bytes - other.num_bytes
        )

    @property
    def is_gain(self) -> bool:
        """Whether it is fewer copies, and no more bytes."""
        return self.number > 0 and self.num_bytes >= 0

    def __str__(self) -> str:
        return f"{counted(self.number, 'copy')} and {format_bytes(self.num_bytes)}"


def _better_device(
    context: CheckContext, run: RunRecord, maker: str | None
) -> tuple[str | None, _Copies]:
    """Where a block needs fewer copies and no more bytes, and how many fewer; None where nowhere.

    Layers stay where the planner or the user spread them, the embedding where the inputs enter,
    and tied blocks together.
    """
    graph = context.structure.graph
    tied = {name for group in graph.tied for name in group}
    if maker is None or maker == graph.embedding or maker in tied or graph.block(maker).stack:
        return None, _Copies()
    home = context.execution_device(context.device_of(maker))
    takers = [
        item
        for item in run.entering
        if item.maker == maker and item.device == home and not _is_brought(run, maker, item.block)
    ]
    here = _copies(context, run, maker, takers, home)
    gains = {
        device: here - _copies(context, run, maker, takers, device)
        for device in dict.fromkeys(_runs_on(context, item.block) for item in takers)
        if device not in (None, home)
        and fits_after(context, *spelled_out({maker: device}, context))
    }
    gains = {device: gain for device, gain in gains.items() if gain.is_gain}
    if not gains:
        return None, _Copies()
    best = max(gains, key=lambda device: (gains[device].number, gains[device].num_bytes))
    return best, gains[best]


def _is_brought(run: RunRecord, maker: str, taker: str) -> bool:
    """Whether what one block gives reaches another by way of where its module's inputs were.

    ``generate`` has the output of an encoder brought back so, wherever its last block is.
    """
    return any(is_inside(maker, name) and not is_inside(taker, name) for name in run.brought_back)


def _copies(
    context: CheckContext, run: RunRecord, maker: str, takers: list[BlockInput], device: str
) -> _Copies:
    """Copies of what a block gives and takes, were it on a device."""
    given = [item for item in takers if _runs_on(context, item.block) != device]
    taken = [item for item in run.entering if item.block == maker and item.device != device]
    return _Copies(
        number=sum(item.count for item in (*given, *taken)),
        num_bytes=sum(item.count * item.num_bytes for item in (*given, *taken)),
    )


def _runs_on(context: CheckContext, block: str) -> str | None:
    return context.execution_device(context.device_of(block))
