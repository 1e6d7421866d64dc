"""Device that the machine does not have.

What it does:
    Looks for entries on devices that are not a GPU of the machine: an index beyond the last GPU, or
    an accelerator of another kind. cpu and disk belong to DP401.

Why it breaks:
    Loading fails with "CUDA error: invalid device ordinal", or with a message that the accelerator
    is not there.

Example:
    --gpus 24GiB,12GiB

    device_map:
      model: 0
      lm_head: 2

Use instead:
    device_map:
      model: 0
      lm_head: 1

Limits:
    Without a machine (a bare map and no --gpus) the GPUs are not known, and the rule finds
    nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import OFFLOAD_DEVICES, Finding, Fix, Severity
from devplan.rules.context import CheckContext
from devplan.rules.places import listed

SEVERITY = Severity.ERROR


def check(context: CheckContext) -> Iterator[Finding]:
    if context.machine is None:
        return
    cards = context.machine.devices
    for device in context.devices:
        if device in cards or device in OFFLOAD_DEVICES:
            continue
        keys = [key for key, value in context.device_map.items() if value == device]
        yield Finding(
            code="DP004",
            severity=SEVERITY,
            message=f"{listed(keys)} on {device}, which the machine does not have; it has "
            f"{', '.join(cards)}",
            module=keys[0],
            entry=context.entries[keys[0]],
            fix=Fix(text="put it on a GPU of the machine, or describe the machine with --gpus"),
            count=len(keys),
        )
