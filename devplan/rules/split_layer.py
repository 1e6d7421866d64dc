"""Split of a layer that its class does not protect.

What it does:
    Looks for layers of a stack (elements of a ModuleList, or of a Sequential of equals) whose parts
    the map puts on different devices, where the class declares no _no_split_modules that cover
    them.

Why it breaks:
    A layer adds its input to the output of its parts (a residual connection), in code that no hook
    watches. Many classes declare nothing (biogpt, blenderbot-small, cpmant), so that accelerate
    splits them without a warning.

Example:
    device_map:
      biogpt.layers.3.self_attn: 0
      biogpt.layers.3.fc1: 1
      biogpt.layers.3.fc2: 1

Use instead:
    device_map:
      biogpt.layers.3: 1

Limits:
    Read off the module tree: a warning. The virtual run shows whether it breaks (DP301); a note
    where the layer ran without a mismatch.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, Severity, is_inside, prefixes
from devplan.rules.context import CheckContext
from devplan.rules.fixes import joined_on_one_device
from devplan.rules.mismatches import broke_inside

SEVERITY = Severity.WARNING


def check(context: CheckContext) -> Iterator[Finding]:
    declared = set(context.structure.whole_modules)
    for block in context.structure.graph.blocks:
        devices = context.devices_inside(block.name)
        if block.stack is None or len(devices) < 2 or declared.intersection(prefixes(block.name)):
            continue
        changed = joined_on_one_device(context, block.name)
        broke = broke_inside(block.name, context)
        inside = [key for key in context.entries if is_inside(key, block.name)]
        yield Finding(
            code="DP202",
            severity=Severity.NOTE if broke is False else SEVERITY,
            message=f"{block.name} is split over {', '.join(sorted(devices))}; it is a layer of "
            f"{block.stack}, {_said(block.class_name, broke)}",
            module=block.name,
            entry=context.entry_of(next(iter(changed), inside[0] if inside else block.name)),
            fix=Fix(text=f"put all of {block.name} on one device", changed_entries=changed),
        )


def _said(kind: str, broke: bool | None) -> str:
    if broke is False:
        return "and ran without a mismatch"
    return f"and a {kind} probably adds its input to its output"
