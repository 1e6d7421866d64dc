"""Findings as annotations of GitHub's workflow commands, one a line.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

from collections.abc import Sequence

from devplan.core import CheckResult, Finding, Severity
from devplan.io import shown
from devplan.report.findings.text import change_lines, shown_finding
from devplan.report.terminal import Terminal
from devplan.rules import RULES

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}


def github_report(results: Sequence[CheckResult], terminal: Terminal) -> str:
    """All findings; no line where there is none."""
    lines = [_line(finding, result) for result in results for finding in result.findings]
    return "".join(f"{line}\n" for line in lines)


def _line(finding: Finding, result: CheckResult) -> str:
    properties = {"title": f"{finding.code} {RULES[finding.code].name}"}
    entry = finding.entry
    file = entry.file if entry else next((e.file for e in result.entries if e.file), None)
    if file:
        line = (entry.line if entry else None) or 1
        properties = {"file": file, "line": str(line), **properties}
    listed = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{_COMMANDS[finding.severity]} {listed}::{_data(_message(finding, result))}"


def _message(finding: Finding, result: CheckResult) -> str:
    finding = shown_finding(finding, result)
    parts = [finding.message]
    parts += [f"PyTorch: {finding.pytorch_message}"] if finding.pytorch_message else []
    if finding.source:
        parts.append(f"{finding.source} in {finding.source.function}: {finding.source.text}")
    parts += [f"fix: {finding.fix.text}"] if finding.fix.text else []
    return "\n".join([*parts, *change_lines(finding, shown(result.entries))])


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
