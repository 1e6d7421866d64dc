"""Findings that the user has accepted: by code with a reason, or by a baseline.

An ignored finding is kept with its reason, apart from those that count; reports show how many
there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from devplan.core import CheckResult, Finding, InputError, nearest
from devplan.rules import RULES


def parse_ignores(texts: Iterable[str]) -> dict[str, str]:
    """Code -> reason from ``CODE=reason`` texts.

    Raises
    ------
    InputError
        For a text without a reason, or a code that no rule has.
    """
    ignores = {}
    for text in texts:
        code, _, reason = text.partition("=")
        if not reason.strip():
            raise InputError(f"--ignore {text!r} gives no reason; write {code or 'DP203'}=reason")
        ignores[code.strip()] = reason.strip()
    return checked_ignores(ignores, "--ignore")


def checked_ignores(ignores: Mapping[str, str], where: str) -> dict[str, str]:
    """The same, when every code is a rule's.

    Raises
    ------
    InputError
        For a code that no rule has.
    """
    for code in ignores:
        if code not in RULES:
            raise InputError(f"{where}: no rule has the code {code!r}{nearest(code, RULES)}")
    return dict(ignores)


def ignore_codes(result: CheckResult, reasons: Mapping[str, str]) -> CheckResult:
    """The result with the findings of these codes put aside."""
    return _set_aside(
        result, {id(d): reasons[d.code] for d in result.findings if d.code in reasons}
    )


def ignore_known(result: CheckResult, known: Iterable[Finding], reason: str) -> CheckResult:
    """The result with some of its own findings put aside."""
    return _set_aside(result, {id(diagnostic): reason for diagnostic in known})


def _set_aside(result: CheckResult, reasons: Mapping[int, str]) -> CheckResult:
    aside = [
        replace(d, ignored_because=reasons[id(d)]) for d in result.findings if id(d) in reasons
    ]
    return replace(
        result,
        findings=tuple(d for d in result.findings if id(d) not in reasons),
        ignored=(*result.ignored, *aside),
    )
