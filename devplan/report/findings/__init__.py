"""The report of `devplan check` in every format: results in, text out.

One table, format -> function; all take the results of one call, and what the stream can show.
Programs read ``json``, ``sarif``, ``github`` or ``junit``; ``docs/check-report.md`` describes
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from devplan.core import CheckResult, InputError, nearest
from devplan.report.findings.github import github_report
from devplan.report.findings.json import json_report
from devplan.report.findings.junit import junit_report
from devplan.report.findings.sarif import sarif_report
from devplan.report.findings.text import text_report
from devplan.report.terminal import Terminal

FORMATS: Mapping[str, Callable[[Sequence[CheckResult], Terminal], str]] = {
    "text": text_report,
    "json": json_report,
    "sarif": sarif_report,
    "github": github_report,
    "junit": junit_report,
}


def check_report(results: Sequence[CheckResult], form: str, terminal: Terminal) -> str:
    """The report of the results of one call.

    Raises
    ------
    InputError
        For an unknown format.
    """
    known_format(form)
    return FORMATS[form](results, terminal)


def known_format(form: str) -> str:
    """The format itself, when there is one of that name."""
    if form not in FORMATS:
        raise InputError(
            f"--format {form!r} is none of {', '.join(FORMATS)}{nearest(form, FORMATS)}"
        )
    return form
