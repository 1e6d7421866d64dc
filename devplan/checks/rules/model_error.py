"""Exception of the model's own code.

What it does:
    Reports the exception that ended a virtual run, where it was no device mismatch, with its place;
    also one that accelerate raised while it attached its hooks.

Why it breaks:
    The model raised it by itself: inputs that it does not take, a library that is missing, a bug.
    Everything after it is unverified.

Example:
    devplan check map.yaml --images 2    # a model that takes one image

Use instead:
    inputs that the model takes: --inputs file.py:function hands over your own.

Limits:
    Example inputs and made-up values (DP903) are not the user's data; an exception that depends on
    values may not happen with real ones.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.checks.subject import Subject
from devplan.findings import Diagnostic, ModelError, Severity

SEVERITY = Severity.ERROR

DISPATCH = "dispatch"
"""Phase in which accelerate attaches its hooks, before any code of the model runs."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    for run in subject.runs:
        if run.error is None:
            continue
        dispatching = run.error.phase == DISPATCH
        yield Diagnostic(
            code="DP302",
            severity=SEVERITY,
            message=_message(run.error),
            source=run.error.source,
            remedy="load the model with this map and the installed accelerate; where that works, "
            "tell devplan's maintainers"
            if dispatching
            else f"the run had {run.inputs}; give inputs that the model takes with --inputs",
        )


def _message(error: ModelError) -> str:
    text = " ".join(error.message.split())
    if error.phase == DISPATCH:
        return f"accelerate raised {error.type} while it attached its hooks: {text}"
    return (
        f"the model's own code raised {error.type} in {error.phase}, which is no device mismatch: "
        f"{text}"
    )
