"""Tied weights on different devices.

What it does:
    Looks for parameters that several modules share and that the map puts on different devices.

Why it breaks:
    accelerate ties them again after placing them (retie_parameters): all modules get the tensor of
    the first, the hooks of the others still move their inputs to their own device, and the op mixes
    devices. Where a release copies the weight instead, it takes memory twice and training lets the
    copies drift apart.

Example:
    device_map:
      model.embed_tokens: 0
      model.layers: 0
      model.norm: 1
      lm_head: 1          # the same tensor as model.embed_tokens

Use instead:
    device_map:
      model.embed_tokens: 0
      model.layers: 0
      model.norm: 0
      lm_head: 0

Limits:
    Ties that the loading code makes later are not in the skeleton.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, Severity, format_bytes
from devplan.rules.context import CheckContext
from devplan.rules.places import listed

SEVERITY = Severity.ERROR


def check(context: CheckContext) -> Iterator[Finding]:
    for names in context.structure.tied:
        placed = {name: context.device_of(name) for name in names}
        devices = {device for device in placed.values() if device is not None}
        if len(devices) < 2:
            continue
        first, home = next((name, device) for name, device in placed.items() if device)
        away = [name for name, device in placed.items() if device not in (home, None)]
        structure = context.structure
        yield Finding(
            code="DP203",
            severity=SEVERITY,
            message=f"{first} on {home} is the same tensor as {listed(away)} on "
            f"{', '.join(sorted(devices - {home}))} "
            f"({format_bytes(structure.tensors[first].num_bytes)})",
            module=structure.tensors[away[0]].owner,
            entry=context.entry_of(away[0]),
            fix=Fix(
                text="put the modules that share it on one device",
                changed_entries={
                    structure.block_of(name) or structure.tensors[name].owner: home for name in away
                },
            ),
        )
