"""What the stream of a report can show (width, colours, characters), and tables on it.

Colours only on a terminal, and not where the reader asked for none (https://no-color.org).  A
pipe gets plain text of 80 columns.  Bars and arrows fall back to ASCII where the encoding of the
stream cannot hold them.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from tabulate import tabulate

from devplan.core import InputError, nearest
from devplan.io import json_text, prose, visible

WIDTH = 80
# Beyond this a line of prose is hard to follow; tables do not need it.
_WIDEST = 110

_FULL, _EMPTY, _ELLIPSIS = "█", "░", "…"

# Select Graphic Rendition, ECMA-48 section 8.3.117.
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


_RESET = "\x1b[0m"
SEQUENCES = (_RESET, *(f"\x1b[{code}m" for code in _STYLES.values()))
"""All escape sequences of devplan's own."""


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """Abilities of a stream; the default is a pipe that takes UTF-8."""

    width: int = WIDTH
    colours: bool = False
    unicode: bool = True

    @property
    def ellipsis(self) -> str:
        return _ELLIPSIS if self.unicode else "..."

    def paint(self, text: str, style: str) -> str:
        """The text in a style, where there are colours."""
        return f"\x1b[{_STYLES[style]}m{text}{_RESET}" if self.colours else text

    def bar(self, share: float, width: int) -> str:
        """A bar of `width` characters, full at a share of 1 and above."""
        filled = min(width, max(round(share * width), 1 if share > 0 else 0))
        full, empty = (_FULL, _EMPTY) if self.unicode else ("#", ".")
        style = "red" if share > 1 else "green"
        return self.paint(full * filled, style) + self.paint(empty * (width - filled), "dim")

    def paragraph(self, text: str, *, first: str = "  ", rest: str | None = None) -> list[str]:
        """Lines of wrapped prose; names and paths are never broken."""
        return textwrap.wrap(
            prose(text),
            width=self.width,
            initial_indent=first,
            subsequent_indent=first if rest is None else rest,
            break_long_words=False,
            break_on_hyphens=False,
        )


def terminal_of(stream: TextIO) -> Terminal:
    """The abilities of a stream."""
    shows = stream.isatty()
    wanted = "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    columns = shutil.get_terminal_size((WIDTH, 24)).columns if shows else WIDTH
    return Terminal(
        width=min(max(columns, WIDTH), _WIDEST),
        colours=shows and wanted,
        unicode=_can_encode(stream, _FULL + _EMPTY + _ELLIPSIS),
    )


def _can_encode(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


# ----------------------------------------------------------------------- tables and sections


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


def joined_sections(sections: Sequence[tuple[str, Sequence[str]]], terminal: Terminal) -> str:
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
