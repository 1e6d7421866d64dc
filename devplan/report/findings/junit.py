"""Findings as JUnit XML: a suite a map, a case a rule.

A case fails with the errors of its rule; warnings and notes are its output; a rule whose findings
are all ignored is skipped with the reason.  The form is that of the schema that Jenkins and GitLab
read (https://github.com/jenkinsci/xunit-plugin, ``junit-10.xsd``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from devplan.core import CheckResult, Finding, Severity
from devplan.io import printed
from devplan.report.findings.text import finding_lines, shown_result
from devplan.report.terminal import Terminal
from devplan.rules import RULES, Rule

# What may stand in XML 1.0 (https://www.w3.org/TR/xml/#charsets), negated.
_FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_report(results: Sequence[CheckResult], terminal: Terminal) -> str:
    """All maps as one XML document; the terminal does not matter."""
    root = ElementTree.Element("testsuites", name="devplan check")
    for result in results:
        _add_suite(root, shown_result(result))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_suite(root: ElementTree.Element, result: CheckResult) -> None:
    failed = {d.code for d in result.errors}
    skipped = {d.code for d in result.ignored} - {d.code for d in result.findings}
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name=_clean(result.map_name),
        tests=str(len(RULES)),
        failures=str(len(failed)),
        errors="0",
        skipped=str(len(skipped)),
    )
    for rule in RULES.values():
        _add_case(suite, rule, result)


def _add_case(suite: ElementTree.Element, rule: Rule, result: CheckResult) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=_clean(result.map_name), name=f"{rule.code} {rule.name}"
    )
    found = [d for d in result.findings if d.code == rule.code]
    errors = [d for d in found if d.severity is Severity.ERROR]
    ignored = [d for d in result.ignored if d.code == rule.code]
    if errors:
        failure = ElementTree.SubElement(
            case, "failure", type=rule.code, message=_clean(errors[0].message)
        )
        failure.text = _text(errors, result)
    elif ignored and not found:
        ElementTree.SubElement(case, "skipped", message=_clean(ignored[0].ignored_because or ""))
    rest = [d for d in found if d not in errors]
    if rest:
        ElementTree.SubElement(case, "system-out").text = _text(rest, result)


def _text(findings: Sequence[Finding], result: CheckResult) -> str:
    lines = [line for each in findings for line in finding_lines(each, result, Terminal())]
    return _clean("\n".join(lines))


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("�", printed(text))
