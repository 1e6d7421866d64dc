"""Findings as SARIF 2.1.0, for code scanning.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html

A result's location is the line of the map, since that is what the project can change; the line of
the model's code, which lies outside the repository, is a related location relative to
``SITEPACKAGES``.  Ignored findings are suppressed results.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devplan import __version__
from devplan.checker import BASELINE_VERSION, fingerprint
from devplan.core import CheckResult, Finding, Severity, SourceLine
from devplan.io import json_text, shown
from devplan.report.findings.text import change_lines, shown_finding
from devplan.report.terminal import Terminal
from devplan.rules import RULES, Rule

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}
_ROOT = "SRCROOT"
_PACKAGES = "SITEPACKAGES"
_CODES = list(RULES)


def sarif_report(results: Sequence[CheckResult], terminal: Terminal) -> str:
    """One run with all maps; the terminal does not matter."""
    driver = {
        "name": "devplan",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(rule) for rule in RULES.values()],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {
            _ROOT: {"description": {"text": "The folder in which devplan was called."}},
            _PACKAGES: {"description": {"text": "The folder of the installed packages."}},
        },
        "results": [
            _result(finding, result)
            for result in results
            for finding in (*result.findings, *result.ignored)
        ],
    }
    report = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json_text(report)


def _rule(rule: Rule) -> dict[str, Any]:
    sections = rule.sections
    return {
        "id": rule.code,
        "name": "".join(part.capitalize() for part in rule.name.split("-")),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": " ".join(sections["What it does"].split())},
        "help": {"text": rule.doc, "markdown": _markdown(sections)},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _markdown(sections: dict[str, str]) -> str:
    return "\n\n".join(f"**{heading}**\n\n{text}" for heading, text in sections.items())


def _result(finding: Finding, result: CheckResult) -> dict[str, Any]:
    document = {
        "ruleId": finding.code,
        "ruleIndex": _CODES.index(finding.code),
        "level": _LEVELS[finding.severity],
        "message": {"text": _message(finding, result)},
        "locations": _locations(finding, result),
        "partialFingerprints": {f"devplan/v{BASELINE_VERSION}": fingerprint(finding)},
    }
    if finding.source:
        sources = (finding.source, *finding.also_at)
        document["relatedLocations"] = [
            _related(number, source) for number, source in enumerate(sources, start=1)
        ]
    if finding.ignored_because:
        document["suppressions"] = [{"kind": "external", "justification": finding.ignored_because}]
    return document


def _message(finding: Finding, result: CheckResult) -> str:
    finding = shown_finding(finding, result)
    parts = [finding.message]
    parts += [f"PyTorch: {finding.pytorch_message}"] if finding.pytorch_message else []
    parts += [f"Fix: {finding.fix.text}"] if finding.fix.text else []
    text = "\n".join([*parts, *change_lines(finding, shown(result.entries))])
    return text.replace("](", "] (")  # [links] SARIF's messages may hold them


def _locations(finding: Finding, result: CheckResult) -> list[dict[str, Any]]:
    file = (
        finding.entry.file
        if finding.entry
        else next((entry.file for entry in result.entries if entry.file), None)
    )
    if file is None:
        return []
    physical: dict[str, Any] = {"artifactLocation": artifact_location(file)}
    line = finding.entry.line if finding.entry else None
    physical["region"] = {"startLine": line or 1}
    location: dict[str, Any] = {"physicalLocation": physical}
    if finding.module:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.module, "kind": "module"}]
    return [location]


def artifact_location(file: str) -> dict[str, str]:
    """A file relative to the folder of the call, or as a URI where it lies elsewhere."""
    path = Path(file)
    if path.is_absolute():
        try:
            path = path.relative_to(Path.cwd())
        except ValueError:
            return {"uri": path.as_uri()}
    return {"uri": _relative_uri(path.as_posix()), "uriBaseId": _ROOT}


def _relative_uri(path: str) -> str:
    from urllib.parse import quote

    return quote(path)


def _related(number: int, source: SourceLine) -> dict[str, Any]:
    region: dict[str, Any] = {"startLine": max(source.line, 1)}
    if source.text:
        region["snippet"] = {"text": source.text}
    path = Path(source.file)
    artifact = (
        {"uri": path.as_uri()}
        if path.is_absolute()
        else {"uri": _relative_uri(path.as_posix()), "uriBaseId": _PACKAGES}
    )
    return {
        "id": number,
        "physicalLocation": {"artifactLocation": artifact, "region": region},
        "message": {"text": f"the model's code, in {source.function}"},
    }
