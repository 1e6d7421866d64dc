"""Exception of the model's own code.

What it does:
    Reports the exception that ended a virtual run, where it was no device mismatch, with its place.

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
from devplan.findings import Diagnostic, Severity

SEVERITY = Severity.ERROR


def check(subject: Subject) -> Iterator[Diagnostic]:
    for run in subject.runs:
        if run.error is None:
            continue
        text = " ".join(run.error.message.split())
        yield Diagnostic(
            code="DP302",
            severity=SEVERITY,
            message=f"the model's own code raised {run.error.type} in {run.error.phase}, which is "
            f"no device mismatch: {text}",
            source=run.error.source,
            remedy=f"the run had {run.inputs}; give inputs that the model takes with --inputs",
        )
