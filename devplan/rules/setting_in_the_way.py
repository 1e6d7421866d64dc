"""Setting that gets in the way of a map.

What it does:
    Looks for settings of torch's allocator (PYTORCH_CUDA_ALLOC_CONF, PYTORCH_ALLOC_CONF,
    PYTORCH_NO_CUDA_MEMORY_CACHING) and of accelerate (ACCELERATE_USE_CPU, use_cpu and num_processes
    of its configuration file).

Why it breaks:
    With num_processes: 4, `accelerate launch` starts four processes, and each of them loads the
    whole map: CUDA out of memory. Without torch's cache every tensor asks the driver. Other
    allocators need another reserve than the default.

Example:
    accelerate launch serve.py      # with num_processes: 4

Use instead:
    python serve.py

Limits:
    What the settings cost is not measured: those of the allocator are notes.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Severity
from devplan.rules.context import CheckContext
from devplan.rules.environment import found_here

SEVERITY = Severity.WARNING


def check(subject: CheckContext) -> Iterator[Finding]:
    yield from found_here(subject, code="DP512")
