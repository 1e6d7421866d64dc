"""Entries on disk need a folder.

What it does:
    Says that a map with entries on disk needs offload_folder when the model is loaded.

Why it breaks:
    accelerate's dispatch_model raises "We need an `offload_dir` to dispatch this model according to
    this `device_map`"; from_pretrained asks for offload_folder, unless all of it can be read from
    safetensors files where they are.

Example:
    model = AutoModelForCausalLM.from_pretrained(name, device_map={"model": 0, "lm_head": "disk"})

Use instead:
    model = AutoModelForCausalLM.from_pretrained(
        name, device_map={"model": 0, "lm_head": "disk"}, offload_folder="offload"
    )

Limits:
    The loading code is not seen: a note. devplan.load needs no folder: it makes a temporary one,
    which goes with the model.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import DISK, Finding, Fix, Severity
from devplan.rules.context import CheckContext
from devplan.rules.places import listed

SEVERITY = Severity.NOTE


def check(context: CheckContext) -> Iterator[Finding]:
    keys = [key for key, device in context.device_map.items() if device == DISK]
    if not keys:
        return
    yield Finding(
        code="DP402",
        severity=SEVERITY,
        message=f"{listed(keys)} on disk: loading needs a folder for the weights",
        module=keys[0],
        entry=context.entries[keys[0]],
        fix=Fix(text='pass offload_folder="offload" to from_pretrained'),
        count=len(keys),
    )
