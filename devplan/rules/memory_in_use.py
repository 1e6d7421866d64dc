"""Memory that somebody else uses.

What it does:
    Compares what is free on each card with what the map puts there, and says who holds the rest
    where the driver tells. An error where load and activations do not fit into what is free, a
    warning where the reserve does not.

Why it breaks:
    torch.OutOfMemoryError: CUDA out of memory, although the card is large enough: another process,
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

from devplan.core import Finding, Severity
from devplan.rules.context import CheckContext
from devplan.rules.environment import found_here

SEVERITY = Severity.ERROR


def check(subject: CheckContext) -> Iterator[Finding]:
    yield from found_here(subject, code="DP505")
