"""Cards that have other numbers here.

What it does:
    Where a card of the map finds less under its own number than under another, and all cards of the
    map have a place under other numbers, says which card is which. An error where the map cannot be
    used as the cards are numbered, else a warning.

Why it breaks:
    The large half of the model goes to the small card: CUDA out of memory.

Example:
    the map is for 24 + 12 GiB; here cuda:0 has 12 GiB and cuda:1 has 24

Use instead:
    devplan doctor MAP --remap FILE         # the same map, its cards renumbered
    devplan.load(MAP, remap=True)
    CUDA_VISIBLE_DEVICES=1,0                # or the other numbers for the same cards

Limits:
    Never remapped without being asked. A remapped map keeps its stages: it is not planned anew for
    cards of other sizes.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Severity
from devplan.rules.context import CheckContext
from devplan.rules.environment import found_here

SEVERITY = Severity.ERROR


def check(subject: CheckContext) -> Iterator[Finding]:
    yield from found_here(subject, code="DP507")
