"""What was found on this machine (``devplan.environment``), as findings of the rules."""

from __future__ import annotations

from collections.abc import Container, Iterator

from devplan.core import Finding
from devplan.rules.context import CheckContext


def found_here(subject: CheckContext, *, code: str, but: Container[str] = ()) -> Iterator[Finding]:
    """The differences of one code, those about `but` aside."""
    for each in subject.differences:
        if each.code == code and each.subject not in but:
            yield Finding(
                code=code,
                severity=each.severity,
                message=each.message,
                module=each.subject,
                remedy=each.remedy,
            )
