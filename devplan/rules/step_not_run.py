"""Step that was asked for and did not run.

What it does:
    Names every run, and every step of a run, that was to happen and did not: a decode step of a
    `generate` that ended early, beam search that the class refuses, a video for which no input was
    found.

Why it breaks:
    Nothing is known about code that did not run. A map is clean for the steps that ran, not for
    these.

Example:
    devplan check map.yaml --run beams     # of a class that cannot search beams

Use instead:
    inputs that the model accepts, with `--inputs FILE.py:FUNCTION`, or the call that your own code
    makes, with `--run FILE.py:FUNCTION`.

Limits:
    A step that the class refuses on one GPU too is a note, since no map can change it.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, Severity
from devplan.rules.context import CheckContext

SEVERITY = Severity.WARNING


def check(context: CheckContext) -> Iterator[Finding]:
    for missed in context.missed:
        reason = " ".join(missed.reason.split())
        yield Finding(
            code="DP905",
            severity=Severity.NOTE if missed.is_refused else SEVERITY,
            message=f"{missed.name} did not run: {reason}",
            fix=Fix(
                text="give inputs with --inputs FILE.py:FUNCTION, or make the call yourself with "
                "--run FILE.py:FUNCTION"
            ),
        )
