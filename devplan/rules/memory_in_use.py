"""Memory that somebody else uses.

What it does:
    Compares what is free on each GPU with what the map puts there, and says who holds the rest
    where the driver tells. An error where load and activations do not fit into what is free, a
    warning where the reserve does not.

Why it breaks:
    torch.OutOfMemoryError: CUDA out of memory, although the GPU is large enough: another process,
    or a model that this process has loaded before, lies there.

Example:
    of the 24.00 GiB of cuda:0 (NVIDIA GeForce RTX 4090) only 9.50 GiB are free,
    python (4711) holds 14.50 GiB

Use instead:
    end the other process (nvidia-smi shows it), delete the other model and call
    torch.cuda.empty_cache(), or plan with the memory that is left: --gpus 9GiB,24GiB.

Limits:
    It is one moment. In a container the driver may not name the processes, and the CUDA context of
    this process counts as somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Environment, Finding, Fix, FoundCard, Severity, format_bytes
from devplan.environment import Need
from devplan.rules.card_smaller import missing_room
from devplan.rules.context import CheckContext

SEVERITY = Severity.ERROR


def check(context: CheckContext) -> Iterator[Finding]:
    yield from context.found_here("DP505")


def memory_held(
    need: Need, card: FoundCard, environment: Environment, remake: str
) -> Iterator[Finding]:
    if card.free_bytes is None or need.whole_bytes > card.capacity_bytes:
        return
    severity, what = missing_room(need, card.room_bytes)
    if severity is Severity.NOTE:
        return
    yield Finding(
        code="DP505",
        severity=severity,
        module=card.device,
        message=f"of the {format_bytes(card.capacity_bytes)} of {card.device} ({card.name}) only "
        f"{format_bytes(card.free_bytes)} are free, {_holders(card, environment)}: {what}",
        planned=format_bytes(need.whole_bytes),
        found=format_bytes(card.free_bytes),
        fix=Fix(text=f"end what uses {card.device} (nvidia-smi shows it), or {remake}"),
    )


def _holders(card: FoundCard, environment: Environment) -> str:
    """Who holds the rest: processes by name where the driver tells."""
    uses = [use for use in environment.uses if use.uuid == card.uuid and card.uuid is not None]
    words = [f"{use.name} ({use.pid}) holds {format_bytes(use.held_bytes)}" for use in uses]
    if not words and card.taken_bytes:
        words = [f"other processes hold {format_bytes(card.taken_bytes)}"]
    if card.own_bytes:
        words.append(f"this process holds {format_bytes(card.own_bytes)} already")
    return " and ".join(words)
