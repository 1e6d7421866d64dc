"""What ``devplan explain`` says of a pasted text, for people and for programs."""

from __future__ import annotations

from devplan import __version__
from devplan.diagnosis import (
    SCHEMA_VERSION,
    Explanation,
    FailureReport,
    report_document,
    report_lines,
)
from devplan.io import visible
from devplan.report.tables import report_json
from devplan.report.terminal import Terminal

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
