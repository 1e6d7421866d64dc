"""Main device that accelerate does not choose.

What it does:
    Works out which device accelerate takes as the main device when it is told only the map, and
    compares it with the one that the map, or the user, states.

Why it breaks:
    from_pretrained hands over no main device. accelerate 0.34 to 1.14 takes the first GPU of the
    map, later releases any of a set, which for integers is the lowest. Inputs, and weights that are
    offloaded, then go to another device than the map was planned and checked for.

Example:
    main_device: cuda:1

    device_map:
      model.embed_tokens: 1
      model.layers: 0

Use instead:
    dispatch_model(model, device_map=device_map, main_device=1)

Limits:
    Which release does what was read in their code; a set of texts ("cuda:1") has no order at all.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, Severity, chosen_by_accelerate
from devplan.rules.context import CheckContext

SEVERITY = Severity.WARNING


def check(context: CheckContext) -> Iterator[Finding]:
    version = context.installed.get("accelerate", "")
    chosen = chosen_by_accelerate(context.devices, version)
    if not context.stated_main or chosen is None or chosen == context.main_device:
        return
    if len(context.devices) < 2:
        return
    first = next(key for key, device in context.device_map.items() if device == chosen)
    yield Finding(
        code="DP502",
        severity=SEVERITY,
        message=f"the main device is {context.main_device}, but accelerate {version} takes "
        f"{chosen} when it is told only the map",
        module=first,
        entry=context.entries[first],
        fix=Fix(
            text=f"load with dispatch_model(..., main_device={context.main_device!r}), or number "
            "the GPUs so that the main device is the lowest"
        ),
    )
