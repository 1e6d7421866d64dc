"""GPU that is smaller than planned.

What it does:
    Compares what torch can allocate of each GPU with the capacity that the map was planned for. An
    error where the load and the activations do not fit, a warning where they take from the reserve,
    a note where everything fits and only headroom is lost.

Why it breaks:
    torch.OutOfMemoryError: CUDA out of memory, at the latest when the context is full.

Example:
    machine:
      cards:
        - device: cuda:1
          capacity_bytes: 25769803776     # here is a GPU of 16 GiB

Use instead:
    the map that `devplan suggest MODEL --gpus 0,1 ...` writes: the message has the whole command.

Limits:
    A GPU that is sold with 24 GB has 23.5 GiB for torch: a map that was planned for 24GiB gets a
    note on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, FoundCard, Severity, format_bytes
from devplan.environment import Need
from devplan.rules.context import CheckContext

SEVERITY = Severity.ERROR


def check(context: CheckContext) -> Iterator[Finding]:
    yield from context.found_here("DP504")


def smaller_card(need: Need, card: FoundCard, remake: str) -> Iterator[Finding]:
    less = need.planned_bytes - card.capacity_bytes
    if less <= 0:
        return
    parts = (
        f"{card.device} ({card.name}) has {format_bytes(card.capacity_bytes)}, "
        f"{format_bytes(less)} less than was planned for"
    )
    severity, what = missing_room(need, card.capacity_bytes)
    yield Finding(
        code="DP504",
        severity=severity,
        module=card.device,
        message=f"{parts}: {what}",
        planned=format_bytes(need.planned_bytes),
        found=format_bytes(card.capacity_bytes),
        fix=Fix(text="" if severity is Severity.NOTE else remake),
    )


def missing_room(need: Need, room_bytes: int) -> tuple[Severity, str]:
    """What becomes of a map's load in so much room."""
    load, reserve = format_bytes(need.least_bytes), format_bytes(need.reserve_bytes)
    if need.least_bytes > room_bytes:
        lacking = format_bytes(need.least_bytes - room_bytes)
        return Severity.ERROR, f"the map's {load} lack {lacking}"
    if need.whole_bytes > room_bytes:
        eaten = format_bytes(need.whole_bytes - room_bytes)
        return Severity.WARNING, f"the map's {load} take {eaten} from the reserve of {reserve}"
    left = format_bytes(room_bytes - need.whole_bytes)
    return Severity.NOTE, f"the map's {load} and its reserve of {reserve} fit, {left} are left"
