"""A frame of a traceback in each of the forms in which frames are printed.

====================  ==================================================================
Python                ``File "x.py", line 3, in forward``, code, ``~~^~~``
IPython 8             ``File x.py:3, in Model.forward(self)``, ``----> 3 code``
IPython 7             ``x.py in forward(self)``, ``----> 3 code``
cells                 ``Cell In[2], line 3``, ``<ipython-input-2-...> in <module>``
rich                  ``x.py:3 in forward``, ``❱ 3 │ code``, in a box
====================  ==================================================================

One class a form would say no more than one pattern does, so that this is a table of patterns.
"""

from __future__ import annotations

import re
import string
from dataclasses import replace
from functools import lru_cache

from devplan.core import parse_whole
from devplan.diagnosis.pasted.errors import PastedFrame

# Every pattern takes a line without blanks at its ends and reads it once: no two parts that follow
# one another can take the same character.
_NUMBER = r"\d{1,9}"
_PYTHON = re.compile(
    rf'File "(?P<file>[^"]+)", line (?P<line>{_NUMBER})(?:, in (?P<function>.+))?$'
)
_NOTEBOOK = re.compile(rf"File (?P<file>[^\"\s].*?):(?P<line>{_NUMBER})(?:, in (?P<function>.+))?$")
_CELL = re.compile(
    rf"(?P<file>(?:Cell|Input) In ?\[[\d*]+\]),? (?:line |in .*?line: ?)(?P<line>{_NUMBER})"
)
_OLD_NOTEBOOK = re.compile(
    r"(?P<file>(?:~|/|[A-Za-z]:[\\/]|<ipython|/?tmp/).*?) in (?P<function>[<\w].*)$"
)
_PATH = re.compile(r"~|/|[A-Za-z]:[\\/]")
_BOXED = re.compile(
    rf"^(?P<file>(?:~|/|[A-Za-z]:[\\/]).*?\.\w+):(?P<line>{_NUMBER})\s*in\s*(?P<function>\S+)$"
)
"""Where the box was too narrow, a line ended at one of the blanks, which is gone."""
_ARROW = re.compile(rf"(?:-+>|❱)\s*(?P<line>{_NUMBER})(?P<text>.*)$")
_RULE = "│" + string.whitespace
"""What rich draws between the number of a line and its code."""
_UNDERLINE = re.compile(r"[~^]+$")
_NUMBERED = re.compile(r"\d+(?: |$)")
_MEMBER = re.compile(r"^(?:.*<locals>\.)?(?:(?P<class>\w+)\.)?(?P<name><?\w[\w ]*>?)")


def frame_at(line: str) -> PastedFrame | None:
    """The frame that a line opens; None where it opens none."""
    bare = line.strip()
    match = None
    if bare.startswith("File "):
        match = _PYTHON.match(bare) or _NOTEBOOK.match(bare)
    elif bare.startswith(("Cell", "Input")):
        match = _CELL.match(bare)
    elif " in " in bare:
        match = _OLD_NOTEBOOK.match(bare)
    return _frame(match) if match else None


def starts_like_path(text: str) -> bool:
    """Whether the head of a frame in a box may begin so."""
    return _PATH.match(text) is not None


def boxed_frame(text: str) -> PastedFrame | None:
    """The frame that lines of a box, joined, open."""
    match = _BOXED.match(text)
    return _frame(match) if match else None


def _frame(match: re.Match[str]) -> PastedFrame:
    parts = match.groupdict()
    function, class_name = _member(parts.get("function") or "")
    return PastedFrame(
        file=parts["file"].strip(),
        line=parse_whole(parts.get("line") or "0"),
        function=function,
        class_name=class_name,
    )


@lru_cache(maxsize=4096)
def _member(written: str) -> tuple[str, str | None]:
    """``forward`` and ``Model`` of ``Model.forward(self, x)``."""
    match = _MEMBER.match(written.partition("(")[0].strip())
    return (match["name"], match["class"]) if match else (written, None)


def with_line(frame: PastedFrame, line: str) -> PastedFrame:
    """The frame with what a line below its head says of it."""
    bare = line.strip()
    arrow = _ARROW.match(bare)
    if arrow:
        number = frame.line or parse_whole(arrow["line"])
        return replace(frame, line=number, text=arrow["text"].lstrip(_RULE))
    # [numbers] notebooks number the lines around the one that an arrow points at.
    if frame.text or not bare or is_underline(bare) or _NUMBERED.match(bare):
        return frame
    return replace(frame, text=bare)


def is_underline(line: str) -> bool:
    """Whether a line marks the failing part of the one above."""
    return _UNDERLINE.match(line.strip()) is not None


def failing_part(code: str, underline: str) -> str:
    """What is underlined in a line of code, both with their indentation."""
    if not code.startswith(" "):  # the indentation is lost, and the columns with it
        return ""
    marked = [index for index, sign in enumerate(underline) if sign in "~^"]
    return code[marked[0] : marked[-1] + 1].strip() if marked else ""
