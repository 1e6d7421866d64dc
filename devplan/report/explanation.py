"""The report of ``devplan explain``: a pasted text, or the pages of rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devplan import __version__
from devplan.io import visible
from devplan.report.terminal import Terminal, report_json
from devplan.rules import FAMILIES, RULES, Rule

if TYPE_CHECKING:
    from devplan.diagnosis import Explanation, FailureReport

_LONGEST = 120
_LONGEST_WORDS = 400
"""Characters of a message that are shown; lists of weights are longer than a screen."""


def explained_text(explanation: Explanation, terminal: Terminal) -> str:
    """All reports; what was not recognised is said too."""
    parts = ["\n".join(_report_lines(report, terminal)) for report in explanation.reports]
    unknown = "\n".join(_unknown_lines(explanation))
    return "\n\n".join([*parts, *([unknown] if unknown else [])]) + "\n"


def _report_lines(report: FailureReport, terminal: Terminal) -> list[str]:
    """The report, with the words that it is about below its head."""
    from devplan.diagnosis import report_lines

    head, *rest = report_lines(report, terminal.paint, terminal.width)
    said = f"{report.exception}: {report.message}" if report.exception else report.message
    said = visible(" ".join(said.split()), _LONGEST_WORDS)
    return [head, *terminal.paragraph(said, rest="    "), *rest]


def _unknown_lines(explanation: Explanation) -> list[str]:
    lines = []
    for error in explanation.unknown:
        first = error.message.partition("\n")[0]
        said = f"{error.type}: {first}" if first else error.type
        times = f" ({error.count:,} times)" if error.count > 1 else ""
        lines.append(f"not recognised: {visible(said, _LONGEST)}{times}")
    if explanation.left_out:
        lines.append(
            f"{explanation.left_out:,} more errors between the first and the last are left out"
        )
    if not explanation.reports:
        where = "none of these is a message" if lines else "the text holds no message"
        lines.append(
            f"{where} about devices, maps or memory that devplan knows; `devplan check MAP` may "
            "find what is wrong with a map all the same"
        )
    return lines


def explained_json(explanation: Explanation) -> str:
    """One object; ``docs/diagnose.md`` lists the keys."""
    from devplan.diagnosis import SCHEMA_VERSION, report_document

    return report_json(
        {
            "schema": SCHEMA_VERSION,
            "devplan": __version__,
            "status": "explained" if explanation.reports else "unknown",
            "stories": [report_document(report) for report in explanation.reports],
            "unknown": [
                {"type": error.type, "message": error.message, "count": error.count}
                for error in explanation.unknown
            ],
            "left_out": explanation.left_out,
        }
    )


# -------------------------------------------------------------------------------------- rules


def rule_text(rule: Rule, terminal: Terminal) -> str:
    """One page."""
    lines = [terminal.paint(f"{rule.code} {rule.name}", "bold"), f"{rule.title}."]
    lines.append(terminal.paint(f"{rule.severity.value}; {FAMILIES[rule.code[:3]]}", "dim"))
    for heading, text in rule.sections.items():
        lines += ["", terminal.paint(heading, "bold")]
        lines += [f"  {line}".rstrip() for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def rules_text(terminal: Terminal) -> str:
    """All rules, one a line, by family."""
    wide = max(len(rule.name) for rule in RULES.values())
    lines = []
    for family, about in FAMILIES.items():
        lines.append(terminal.paint(f"{family}: {about}", "bold"))
        lines += [
            f"  {code}  {rule.name:<{wide}}  {rule.title}"
            for code, rule in RULES.items()
            if code.startswith(family)
        ]
    return "\n".join(lines) + "\n"
