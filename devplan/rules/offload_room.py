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

from devplan.core import CPU, DISK, DeviceMapFile, Environment, Finding, Fix, Severity, format_bytes
from devplan.rules.context import CheckContext

SEVERITY = Severity.ERROR

_TIGHT_SHARE = 0.9
"""[choice] of the free memory: beyond, what the rest of the program needs may be lacking."""


def check(context: CheckContext) -> Iterator[Finding]:
    yield from context.found_here("DP510")


def compare_offload(
    map_file: DeviceMapFile, environment: Environment, remake: str
) -> Iterator[Finding]:
    """Offload that does not fit, or hardly."""
    rooms = {
        CPU: (environment.memory_bytes, "of CPU memory are free"),
        DISK: (environment.disk_bytes, f"are free in {environment.offload_folder or 'the folder'}"),
    }
    for tier, (free, words) in rooms.items():
        wanted = map_file.offload_bytes.get(tier, 0)
        if not wanted or free is None or wanted <= _TIGHT_SHARE * free:
            continue
        lacks = wanted > free
        what = f"lack {format_bytes(wanted - free)}" if lacks else "leave little of it"
        yield Finding(
            code="DP510",
            severity=Severity.ERROR if lacks else Severity.WARNING,
            module=tier,
            message=f"{format_bytes(free)} {words}: the {format_bytes(wanted)} that the map keeps "
            f"on {tier} {what}",
            planned=format_bytes(wanted),
            found=format_bytes(free),
            fix=Fix(text=("name another offload_folder, or " if tier == DISK else "") + remake),
        )
