"""Too little room for offload.

What it does:
    Compares what the map keeps on cpu and on disk with the free CPU memory (the limit of a
    container included) and with what is free where the offload folder is or would be. More than
    there is is an error, more than nine tenths a warning.

Why it breaks:
    The process is killed while it loads, or "No space left on device" leaves half an offload
    folder.

Example:
    offload_bytes: {disk: 21474836480}      # 20 GiB, and 4 GiB are free

Use instead:
    model = from_pretrained(name, device_map=device_map, offload_folder="/large/disk")

Limits:
    It is one moment, and what loading takes for a while beside the weights is not counted.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Severity
from devplan.rules.context import CheckContext
from devplan.rules.environment import found_here

SEVERITY = Severity.ERROR


def check(subject: CheckContext) -> Iterator[Finding]:
    yield from found_here(subject, code="DP510")
