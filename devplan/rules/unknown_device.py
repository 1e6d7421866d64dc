"""Device that cannot be read.

What it does:
    Looks for values of the map that are no device: a number in quotes, a misspelt name, and an
    accelerator without an index.

Why it breaks:
    torch refuses the value while the model is being loaded. An accelerator without an index (cuda)
    is read, and means whichever GPU is current in the process at that moment; this is a warning.

Example:
    device_map:
      model: "0"
      lm_head: cuda

Use instead:
    device_map:
      model: 0
      lm_head: 0

Limits:
    The other rules pass over entries whose device cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import INDEXED_KINDS, Entry, Finding, Fix, Severity
from devplan.rules.context import CheckContext

SEVERITY = Severity.ERROR


def check(context: CheckContext) -> Iterator[Finding]:
    for entry in context.map.entries:
        if entry.device is None:
            yield _finding(context, entry, Severity.ERROR, entry.problem, "write a device")
        elif entry.written in INDEXED_KINDS:
            problem = f"{entry.written} without an index is whichever GPU is current"
            yield _finding(context, entry, Severity.WARNING, problem, "write its index")


def _finding(
    context: CheckContext, entry: Entry, severity: Severity, problem: str, fix: str
) -> Finding:
    return Finding(
        code="DP003",
        severity=severity,
        message=f"the device of {entry.key!r} cannot be relied on: {problem}",
        module=entry.key,
        entry=entry,
        fix=Fix(text=fix, changed_entries={entry.key: entry.device} if entry.device else {}),
    )
