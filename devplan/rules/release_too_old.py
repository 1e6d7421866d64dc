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

from collections.abc import Iterator

from devplan.core import Finding, Severity
from devplan.rules.context import CheckContext
from devplan.rules.environment import found_here

SEVERITY = Severity.ERROR


def check(subject: CheckContext) -> Iterator[Finding]:
    yield from found_here(subject, code="DP513")
