"""Library older than devplan can use.

What it does:
    Compares the installed libraries with the lower bounds that devplan declares for itself.

Why it breaks:
    A function or class that devplan calls is not there.

Example:
    transformers 4.40.0      # devplan needs transformers>=4.45

Use instead:
    pip install "transformers>=4.45"

Limits:
    Nothing is known where devplan runs from a folder and is not installed.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

from devplan.core import Environment, Finding, Fix, Severity
from devplan.rules.context import CheckContext
from devplan.rules.versions_differ import release_of

SEVERITY = Severity.ERROR


def check(context: CheckContext) -> Iterator[Finding]:
    yield from context.found_here("DP513")


def too_old(environment: Environment) -> Iterator[Finding]:
    """Libraries below what devplan itself asks for; nothing where devplan is not installed."""
    from packaging.requirements import Requirement

    try:
        required = importlib.metadata.requires("devplan") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for text in required:
        requirement = Requirement(text)
        here = environment.versions.get(requirement.name)
        if here is None or requirement.specifier.contains(release_of(here), prereleases=True):
            continue
        yield Finding(
            code="DP513",
            severity=Severity.ERROR,
            module=requirement.name,
            message=f"devplan needs {requirement.name}{requirement.specifier}, here is {here}",
            planned=str(requirement.specifier),
            found=here,
            fix=Fix(text=f'pip install "{requirement.name}{requirement.specifier}"'),
        )
