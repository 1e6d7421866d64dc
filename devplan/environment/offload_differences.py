"""Room outside the GPUs for what the map offloads: CPU memory, and disk in the offload folder."""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import CPU, DISK, DeviceMapFile, Difference, Environment, Severity, format_bytes

TOO_LITTLE = "DP510"

_TIGHT_SHARE = 0.9
"""[choice] of the free memory: beyond, what the rest of the program needs may be lacking."""


def compare_offload(
    map_file: DeviceMapFile, environment: Environment, remake: str
) -> Iterator[Difference]:
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
        yield Difference(
            code=TOO_LITTLE,
            severity=Severity.ERROR if lacks else Severity.WARNING,
            subject=tier,
            message=f"{format_bytes(free)} {words}: the {format_bytes(wanted)} that the map keeps "
            f"on {tier} {what}",
            planned=format_bytes(wanted),
            present=format_bytes(free),
            remedy=("name another offload_folder, or " if tier == DISK else "") + remake,
        )
