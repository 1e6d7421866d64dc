"""Bare parameter away from the code that uses it.

What it does:
    Looks for parameters and buffers that belong directly to a module whose parts are on different
    devices, have an entry of their own, and lie elsewhere than the module's code runs.

Why it breaks:
    A hook moves the inputs of a module, never a bare tensor: an entry that names a tensor places it
    and hooks nothing. The code of the module around it runs where its inputs are, usually the main
    device, and finds the tensor on another.

Example:
    device_map:
      model.image_newline: 1         # used by the code of model, whose inputs are on cuda:0
      model.vision_tower: 0
      model.multi_modal_projector: 0
      model.language_model: 1
      lm_head: 0

Use instead:
    device_map:
      model.image_newline: 0

Limits:
    Whether the code moves the tensor itself is not looked at: a warning. The virtual run decides
    (DP303).
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, Severity
from devplan.rules.context import CheckContext

SEVERITY = Severity.WARNING


def check(context: CheckContext) -> Iterator[Finding]:
    for tensor in context.structure.tensors.values():
        owner = tensor.owner
        if context.is_hooked(owner) or len(context.devices_inside(owner)) < 2:
            continue
        device, home = context.device_of(tensor.name), context.runs_at(owner)
        if device in (None, home):
            continue
        kind = context.structure.modules[owner]
        yield Finding(
            code="DP204",
            severity=SEVERITY,
            message=f"{tensor.name} is on {device} and no hook moves it; the code of "
            f"{owner or 'the model'} ({kind}) that uses it runs at {home}",
            module=tensor.name,
            entry=context.entry_of(tensor.name),
            fix=Fix(
                text=f"put it where the code of {owner or 'the model'} runs",
                changed_entries={tensor.name: home},
            ),
        )
