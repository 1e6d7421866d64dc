"""Map that was made with other versions.

What it does:
    Compares the versions of transformers, accelerate, torch and diffusers that stand in the map
    with the installed ones; where a map is locked and this machine is looked at, driver, CUDA and
    Python too. A class of the map that the installed transformers does not have is an error.

Why it breaks:
    Modules change their names, hooks and main device their meaning, and bugs come and go from
    release to release: a map is proven for the versions that it was proven with. Another minor
    version of transformers, accelerate or diffusers is a warning, as is a driver that is older than
    that of the lock; all else is a note.

Example:
    versions:
      transformers: 4.48.3        # installed: 5.23.0

Use instead:
    the map that `devplan suggest --force` writes with the installed versions.

Limits:
    A bare map says nothing of versions.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Severity
from devplan.environment import COMPARED, weight_of
from devplan.rules.context import CheckContext
from devplan.rules.environment import found_here

SEVERITY = Severity.WARNING


def check(subject: CheckContext) -> Iterator[Finding]:
    yield from found_here(subject, code="DP501", but=COMPARED)
    made = subject.map.versions
    weights = {
        name: weight
        for name in COMPARED
        if name in made
        and name in subject.installed
        and (weight := weight_of(name, made[name], subject.installed[name])) is not None
    }
    if not weights:
        return
    different = list(weights)
    listing = ", ".join(f"{n} {made[n]} (installed: {subject.installed[n]})" for n in different)
    yield Finding(
        code="DP501",
        severity=Severity.WARNING if Severity.WARNING in weights.values() else Severity.NOTE,
        message=f"the map was made with {listing}",
        module=different[0],
        remedy="make it again with `devplan suggest --force`, or install the versions it names",
    )
