"""Entry that governs nothing.

What it does:
    Looks for entries whose module lies whole under longer entries, so that no parameter and no
    buffer follows them.

Why it breaks:
    The longest entry wins. Nothing is placed by the shorter one, but its hook still moves the
    inputs of the module to its device before every forward: copies that serve no purpose.

Example:
    device_map:
      lm_head: 1
      model: 0             # every part of it has an entry of its own
      model.embed_tokens: 1
      model.layers: 1
      model.norm: 1

Use instead:
    device_map:
      lm_head: 1
      model: 1

Limits:
    Entries with the device of everything below them are let pass: they change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, Severity, find_entry
from devplan.rules.context import CheckContext

SEVERITY = Severity.WARNING


def check(context: CheckContext) -> Iterator[Finding]:
    tensors = context.structure.tensors
    governing = {find_entry(context.entries, name) for name in tensors}
    for key, entry in context.entries.items():
        below = context.devices_inside(key)
        if key in governing or not below or below == {entry.device}:
            continue
        yield Finding(
            code="DP005",
            severity=SEVERITY,
            message=f"{key or 'the whole model'!r} governs nothing: longer entries place all of it "
            f"on {', '.join(sorted(below))}, and its hook still moves inputs to {entry.device}",
            module=key,
            entry=entry,
            fix=Fix(text="remove the entry", dropped_entries=(key,)),
        )
