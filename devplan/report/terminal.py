"""What the stream that a report goes to can show: width, colours, characters.

Colours only on a terminal, and not where the reader asked for none (https://no-color.org).  A
pipe gets plain text of 80 columns.  Bars and arrows fall back to ASCII where the encoding of the
stream cannot hold them.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from dataclasses import dataclass
from typing import TextIO

from devplan.io import prose

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
