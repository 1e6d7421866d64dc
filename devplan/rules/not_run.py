"""Map that was only read, not run.

What it does:
    Says that the model's code was not run with this map, and why.

Why it breaks:
    Names, sizes and structure were checked; whether an op mixes devices was not. Most bugs of split
    models are of that kind.

Example:
    devplan check map.yaml      # of a model whose own code is not there

Use instead:
    `--trust-remote-code` where the model's code comes with it; an installed release that has the
    class.

Limits:
    None: this is a limit.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, Severity
from devplan.rules.context import CheckContext

SEVERITY = Severity.WARNING


def check(context: CheckContext) -> Iterator[Finding]:
    if context.runs:
        return
    yield Finding(
        code="DP901",
        severity=SEVERITY,
        message=f"nothing was run: {context.not_run or 'the check looked at the structure alone'}",
        fix=Fix(
            text="run the model with --trust-remote-code or --inputs FILE.py:FUNCTION; without a "
            "run, the check cannot find a mismatch (DP3xx)"
        ),
    )
