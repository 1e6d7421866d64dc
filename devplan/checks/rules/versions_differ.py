"""Map that was made with other versions.

What it does:
    Compares the versions of transformers, accelerate, torch and diffusers that stand in the map
    with the installed ones.

Why it breaks:
    Modules change their names, hooks and main device their meaning, and bugs come and go from
    release to release: a map is proven for the versions that it was proven with. Another minor
    version of transformers or accelerate is a warning, all else a note.

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

from devplan.checks.subject import Subject
from devplan.findings import Diagnostic, Severity

SEVERITY = Severity.WARNING

# Versions of devplan itself do not matter to a model that runs.
_COMPARED = ("transformers", "accelerate", "torch", "diffusers")
_DECISIVE = ("transformers", "accelerate")


def check(subject: Subject) -> Iterator[Diagnostic]:
    made = subject.given.versions
    different = [
        name
        for name in _COMPARED
        if name in made and name in subject.installed and made[name] != subject.installed[name]
    ]
    if not different:
        return
    decisive = any(
        _minor(made[name]) != _minor(subject.installed[name])
        for name in different
        if name in _DECISIVE
    )
    listing = ", ".join(f"{n} {made[n]} (installed: {subject.installed[n]})" for n in different)
    yield Diagnostic(
        code="DP501",
        severity=Severity.WARNING if decisive else Severity.NOTE,
        message=f"the map was made with {listing}",
        module=different[0],
        remedy="make it again with `devplan suggest --force`, or install the versions it names",
    )


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])
