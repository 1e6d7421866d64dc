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
from dataclasses import replace

from devplan.diagnosis.pasted.errors import PastedFrame

_FORMS = tuple(
    re.compile(form)
    for form in (
        r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>.+?))?\s*$',
        r"^\s*File (?P<file>[^\"\s].*?):(?P<line>\d+)(?:, in (?P<function>.+?))?\s*$",
        r"^\s*(?P<file>(?:Cell|Input) In ?\[[\d*]+\]),? (?:line |in .*?line: ?)(?P<line>\d+)",
        r"^\s*(?P<file>(?:~|/|[A-Za-z]:[\\/]|<ipython|/?tmp/).*?) in (?P<function>[<\w].*?)\s*$",
    )
)
_BOXED = re.compile(
    r"^(?P<file>(?:~|/|[A-Za-z]:[\\/]).*?\.\w+):(?P<line>\d+)\s*in\s*(?P<function>\S+)$"
)
"""Where the box was too narrow, a line ended at one of the blanks, which is gone."""
_ARROW = re.compile(r"^\s*(?:-+>|❱)\s*(?P<line>\d+)\s?(?:│\s*)*(?P<text>.*?)\s*$")
_UNDERLINE = re.compile(r"^\s*[~^]+\s*$")
_MEMBER = re.compile(r"^(?:.*<locals>\.)?(?:(?P<class>\w+)\.)?(?P<name><?\w[\w ]*>?)")


def frame_at(line: str) -> PastedFrame | None:
    """The frame that a line opens; None where it opens none."""
    for form in _FORMS:
        match = form.match(line)
        if match:
            return _frame(match)
    return None


def boxed_frame(text: str) -> PastedFrame | None:
    """The frame that lines of a box, joined, open."""
    match = _BOXED.match(text)
    return _frame(match) if match else None


def _frame(match: re.Match[str]) -> PastedFrame:
    parts = match.groupdict()
    function, class_name = _member(parts.get("function") or "")
    return PastedFrame(
        file=parts["file"].strip(),
        line=int(parts.get("line") or 0),
        function=function,
        class_name=class_name,
    )


def _member(written: str) -> tuple[str, str | None]:
    """``forward`` and ``Model`` of ``Model.forward(self, x)``."""
    match = _MEMBER.match(written.partition("(")[0].strip())
    return (match["name"], match["class"]) if match else (written, None)


def with_line(frame: PastedFrame, line: str) -> PastedFrame:
    """The frame with what a line below its head says of it."""
    arrow = _ARROW.match(line)
    if arrow:
        number = frame.line or int(arrow["line"])
        return replace(frame, line=number, text=arrow["text"].strip())
    if _UNDERLINE.match(line):
        return frame
    # [numbers] notebooks number the lines around the one that an arrow points at.
    if frame.text or not line.strip() or re.match(r"^\s*\d+(?: |$)", line):
        return frame
    return replace(frame, text=line.strip())


def is_underline(line: str) -> bool:
    """Whether a line marks the failing part of the one above."""
    return _UNDERLINE.match(line) is not None


def failing_part(code: str, underline: str) -> str:
    """What is underlined in a line of code, both with their indentation."""
    if not code.startswith(" "):  # the indentation is lost, and the columns with it
        return ""
    marked = [index for index, sign in enumerate(underline) if sign in "~^"]
    return code[marked[0] : marked[-1] + 1].strip() if marked else ""
