"""Split of a module that must stay whole.

What it does:
    Looks for modules whose class the model lists in _no_split_modules and whose parts the map puts
    on different devices.

Why it breaks:
    Such a module adds its input to the output of its parts (a residual connection), in code that no
    hook watches: "Expected all tensors to be on the same device". Only whole modules may be placed.
    Some classes declare modules that have no such code: where the split module ran without a
    mismatch this is a note, where no run reached it a warning. Where the run shows the op that
    breaks, DP301 reports it with its line of code and names the split module as the cause.

Example:
    device_map:
      model.layers.7.self_attn: 0
      model.layers.7.mlp: 1

Use instead:
    device_map:
      model.layers.7: 1

Limits:
    Classes that declare nothing are judged by their structure (DP202).
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, Severity, is_inside
from devplan.rules.context import CheckContext
from devplan.rules.fixes import joined_on_one_device
from devplan.rules.mismatches import broke_inside, split_around

SEVERITY = Severity.ERROR


_SEVERITIES = {True: SEVERITY, None: Severity.WARNING, False: Severity.NOTE}


def check(context: CheckContext) -> Iterator[Finding]:
    events = [event for run in context.runs for event in run.mismatches]
    shown = {module for event in events for module in split_around(event, context)}
    for module in context.split_whole_modules:
        if module in shown:
            continue
        devices = ", ".join(sorted(context.devices_inside(module)))
        kind = context.structure.modules[module]
        changed = joined_on_one_device(context, module)
        broke = broke_inside(module, context) if context.runs else True
        inside = [key for key in context.entries if is_inside(key, module) and key != module]
        yield Finding(
            code="DP201",
            severity=_SEVERITIES[broke],
            message=f"{module} is split over {devices}; {_said(kind, broke)}",
            module=module,
            entry=context.entry_of(next(iter(changed), inside[0] if inside else module)),
            fix=Fix(text=f"put all of {module} on one device", changed_entries=changed),
        )


def _said(kind: str, broke: bool | None) -> str:
    if broke is False:
        return f"the model declares {kind} in _no_split_modules, but it ran without a mismatch"
    unseen = "" if broke else ", and no run reached it"
    return f"a {kind} must stay whole, as the model declares in _no_split_modules{unseen}"
