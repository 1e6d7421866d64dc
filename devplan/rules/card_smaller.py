"""Card that is smaller than planned.

What it does:
    Compares what torch can allocate of each card with the capacity that the map was planned for. An
    error where the load and the activations do not fit, a warning where they take from the reserve,
    a note where everything fits and only headroom is lost.

Why it breaks:
    torch.OutOfMemoryError: CUDA out of memory, at the latest when the context is full.

Example:
    machine:
      cards:
        - device: cuda:1
          capacity_bytes: 25769803776     # here is a card of 16 GiB

Use instead:
    the map that `devplan suggest MODEL --gpus 0,1 ...` writes: the message has the whole command.

Limits:
    A card that is sold with 24 GB has 23.5 GiB for torch: a map that was planned for 24GiB gets a
    note on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Severity
from devplan.rules.context import CheckContext
from devplan.rules.environment import found_here

SEVERITY = Severity.ERROR


def check(subject: CheckContext) -> Iterator[Finding]:
    yield from found_here(subject, code="DP504")
