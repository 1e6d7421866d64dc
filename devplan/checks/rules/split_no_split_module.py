"""Split of a module that must stay whole.

What it does:
    Looks for modules whose class the model lists in _no_split_modules and whose parts the map puts
    on different devices.

Why it breaks:
    Such a module adds its input to the output of its parts (a residual connection), in code that no
    hook watches: "Expected all tensors to be on the same device". Only whole modules may be placed.

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

from devplan.checks.remedies import joined
from devplan.checks.subject import Subject
from devplan.findings import Diagnostic, Severity
from devplan.names import is_inside, parent, prefixes

SEVERITY = Severity.ERROR


def check(subject: Subject) -> Iterator[Diagnostic]:
    split = [m for m in subject.structure.whole_modules if len(subject.devices_inside(m)) > 1]
    found = set(split)
    for module in split:
        if not module or any(p in found for p in prefixes(parent(module)) if p):
            continue
        devices = ", ".join(sorted(subject.devices_inside(module)))
        kind = subject.structure.modules[module]
        changed = joined(subject, module)
        inside = [key for key in subject.entries if is_inside(key, module) and key != module]
        yield Diagnostic(
            code="DP201",
            severity=SEVERITY,
            message=f"{module} is split over {devices}; a {kind} must stay whole, as the model "
            "declares in _no_split_modules",
            module=module,
            entry=subject.entry_of(next(iter(changed), inside[0] if inside else module)),
            remedy=f"put all of {module} on one device",
            changed_entries=changed,
        )
