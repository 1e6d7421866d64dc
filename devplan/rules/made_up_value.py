"""Integers that had to be made up.

What it does:
    Names the places where an integer came out of floating-point numbers that have no values in a
    virtual run (the chosen token, the chosen experts), so that a plausible one was taken.

Why it breaks:
    Code that decides by such a value took one of several ways. The other ways are unverified.

Example:
    if scores.argmax() > threshold: ...

Use instead:
    Nothing: this is a limit. `--inputs` with other shapes may take other ways.

Limits:
    None: this is a limit.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, Severity
from devplan.rules.context import CheckContext
from devplan.rules.places import counted, listed

SEVERITY = Severity.NOTE


def check(context: CheckContext) -> Iterator[Finding]:
    values = [value for run in context.runs for value in run.made_up]
    if not values:
        return
    ops = list(dict.fromkeys(value.op for value in values))
    places = list(dict.fromkeys(str(value.source) for value in values if value.source))
    where = f" at {listed(places)}" if places else ""
    number = sum(value.count for value in values)
    yield Finding(
        code="DP903",
        severity=SEVERITY,
        message=f"{counted(number, 'synthetic integer')} for {listed(ops)}{where}: where the code "
        "branches on them, the run took one branch only",
        op=ops[0],
        source=next((value.source for value in values if value.source), None),
        fix=Fix(text="read the code at these lines and check what the other branches need"),
        count=number,
    )
