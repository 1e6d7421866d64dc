"""Entry for the whole model that the main device overrules.

What it does:
    Compares the device of the entry '' with the main device, where the map has other devices too.

Why it breaks:
    accelerate's dispatch_model gives the whole model the main device before it looks at the map:
    execution_device[""] = main_device. What only the entry '' governs is moved there when the hooks
    are attached, whatever the entry says, and may not fit.

Example:
    main device cuda:0

    device_map:
      '': 1
      lm_head: 0

Use instead:
    device_map:
      model: 1
      lm_head: 0

Limits:
    With one device in the map nothing is dispatched, and the entry '' holds.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import OFFLOAD_DEVICES, Finding, Fix, Severity, find_entry
from devplan.rules.context import CheckContext

SEVERITY = Severity.ERROR


def check(context: CheckContext) -> Iterator[Finding]:
    entry = context.entries.get("")
    if entry is None or len(context.devices) < 2:
        return
    if entry.device in (context.main_device, *OFFLOAD_DEVICES):
        return
    governed = [n for n in context.structure.tensors if find_entry(context.entries, n) == ""]
    if not governed:
        return
    tops = dict.fromkeys(name.partition(".")[0] for name in governed)
    changed = {top: entry.device for top in tops if top not in context.entries}
    yield Finding(
        code="DP006",
        severity=SEVERITY,
        message=f"'' says {entry.device}, but accelerate moves what it governs to the main device "
        f"{context.main_device}",
        module="",
        entry=entry,
        fix=Fix(
            text="name the modules instead of the whole model",
            changed_entries=changed,
            dropped_entries=("",),
        ),
    )
