"""Offload that was not asked for.

What it does:
    Looks for entries on cpu or disk where the machine of the map allows no such offload.

Why it breaks:
    Weights on cpu or disk are copied to a GPU every time their module runs. A model that fits is
    often spilled all the same by device_map="auto", and is then tens of times slower; with weights
    on the CPU some releases also read the device of a parameter outside of its hook, and find meta.

Example:
    device_map:
      model.embed_tokens: 0
      model.layers: 0
      model.norm: cpu
      lm_head: cpu

Use instead:
    the map that `devplan suggest MODEL --gpus ...` writes; or allow the offload when it is meant:
    `devplan suggest MODEL --gpus ... --offload cpu=64GiB`.

Limits:
    A bare map cannot state that offload is intended. Ignore the code with a reason, or name the
    machine.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import OFFLOAD_DEVICES, Finding, Fix, Severity, format_bytes
from devplan.rules.context import CheckContext
from devplan.rules.loads import tensor_bytes
from devplan.rules.places import listed

SEVERITY = Severity.WARNING


def check(context: CheckContext) -> Iterator[Finding]:
    if all(device in OFFLOAD_DEVICES for device in context.devices):
        return
    allowed = {tier.device for tier in context.machine.tiers} if context.machine else set()
    for device in OFFLOAD_DEVICES:
        keys = [key for key, value in context.device_map.items() if value == device]
        if not keys or device in allowed:
            continue
        yield Finding(
            code="DP401",
            severity=SEVERITY,
            message=f"{listed(keys)} on {device}: {format_bytes(_bytes_on(context, device))} are "
            f"copied to {context.main_device} in every forward, although no offload was asked for",
            module=keys[0],
            entry=context.entries[keys[0]],
            fix=Fix(text="place them on GPUs, or allow offload with --offload"),
            count=len(keys),
        )


def _bytes_on(context: CheckContext, device: str) -> int:
    return sum(held.get(device, 0) for held in tensor_bytes(context))
