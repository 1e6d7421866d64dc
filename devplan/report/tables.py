"""Tables of cells and documents of maps, for the reports that set things side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from devplan.core import InputError, nearest
from devplan.io import json_text, prose, visible
from devplan.report.terminal import Terminal

FORMATS = ("text", "json")


def known_table_format(form: str) -> str:
    """The format itself, when there is one of that name.

    Raises
    ------
    InputError
        For an unknown format.
    """
    if form not in FORMATS:
        raise InputError(
            f"--format {form!r} is none of {', '.join(FORMATS)}{nearest(form, FORMATS)}"
        )
    return form


def table_lines(
    heads: Sequence[str], rows: Sequence[Sequence[str]], terminal: Terminal, *, words: int = 1
) -> list[str]:
    """A plain table; the first `words` columns hold words, the others numbers."""
    aligned = ["left"] * words + ["right"] * (len(heads) - words)
    # [heads] go in as a row: tabulate pads headers, and the table would not fit 80 columns.
    lines = tabulate(
        [[visible(cell) for cell in row] for row in (heads, *rows)],
        tablefmt="plain",
        disable_numparse=True,
        colalign=aligned,
    ).splitlines()
    head, *body = (f"  {line.rstrip()}" for line in lines)
    return [terminal.paint(head, "bold"), *body]


def joined(sections: Sequence[tuple[str, Sequence[str]]], terminal: Terminal) -> str:
    """Sections with something to say, an empty line between them."""
    parts = []
    for heading, lines in sections:
        if lines:
            head = [terminal.paint(prose(heading), "bold")] if heading else []
            parts.append("\n".join([*head, *lines]))
    return "\n\n".join(parts) + "\n"


def report_json(report: dict[str, Any]) -> str:
    """One object for programs."""
    return json_text(report, allow_nan=False)


def tokens_cell(tokens: int | None, limit: int | None) -> str:
    """``37,802``; ``128,000*`` where the model's own limit ends the context and not memory."""
    if limit is not None and (tokens is None or tokens >= limit):
        return f"{limit:,}*"
    return "any" if tokens is None else f"{tokens:,}"


OWN_LIMIT = "* the model's own limit, not memory's"
UNKNOWN = "?"
"""Where the model's code did not run, so that nobody knows what grows."""
