"""Card that this machine does not have.

What it does:
    Looks on this machine for every card that the map uses: in `devplan doctor MAP`, when a map is
    loaded, and in `devplan check --here`.

Why it breaks:
    Loading fails with "CUDA error: invalid device ordinal". Cards that are in the machine but
    hidden by CUDA_VISIBLE_DEVICES are not there for the process either; DP511 says which.

Example:
    CUDA_VISIBLE_DEVICES=0 python serve.py      # the map has cuda:0 and cuda:1

Use instead:
    the map that `devplan suggest MODEL --gpus 0 ...` writes for the cards that are here; the
    message has the whole command, with the workload of the map.

Limits:
    DP004 is about a card that the map's own machine does not have; this one about the machine at
    hand. Accelerators of other kinds are not looked for.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Severity
from devplan.rules.context import CheckContext
from devplan.rules.environment import found_here

SEVERITY = Severity.ERROR


def check(subject: CheckContext) -> Iterator[Finding]:
    yield from found_here(subject, code="DP503")
