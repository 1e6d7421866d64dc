"""Lines to errors: frames are gathered until the line that says what was raised."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

from devplan.diagnosis.messages import Scan
from devplan.diagnosis.pasted.cleaning import cleaned_pieces
from devplan.diagnosis.pasted.errors import ErrorLog, PastedFrame, Stream
from devplan.diagnosis.pasted.frames import (
    boxed_frame,
    failing_part,
    frame_at,
    is_underline,
    starts_like_path,
    with_line,
)

TRACEBACK_HEAD = "Traceback (most recent call last)"
_ENDINGS = "Error|Exception|Warning|Interrupt|Exit|Group|Said"
_RAISED = re.compile(
    rf"^(?P<type>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:{_ENDINGS}))(?::\s?(?P<message>.*))?$"
)
_CHAIN = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_BAR = "│"
_BORDER_STARTS, _BORDER_ENDS = tuple("╭╰┌└"), tuple("╮╯┐┘")
_REPEATED = "[Previous line repeated "
_BESIDE = "+-| "
"""What Python draws beside the tracebacks of an exception group."""
_IN_GROUP = re.compile(r"File |Traceback|[\w.]+(?:Error|Exception)")
_MATTERS = re.compile(
    rf"File |Traceback \(| in |In ?\[|->|[❱│╭╰┌└]|(?:{_ENDINGS})(?::|[^\S\n]*$)", re.MULTILINE
)
"""Without one of these a line changes nothing, unless a frame or a message is waiting for it."""
_LONGEST_FRAME = 500
"""Characters of a line that may open a frame."""
_LONGEST_MESSAGE = 40
"""Lines; what follows an error without an empty line between is not all its message."""
_LONGEST_BOX = 600
_MOST_BOX_LINES = 12
"""Characters and lines of the head of one frame in a box."""
_OUTER_FRAMES, _INNER_FRAMES = 100, 200
"""Frames of one traceback that are kept: a recursion has thousands that are alike."""
_MOST_BELOW = 100
"""Lines below the head of a frame that may say something of it."""
_MOST_STREAMS = 1_000
"""Processes that are told apart."""
_MOST_KEPT = 50_000
"""Lines that are remembered with what they may be."""


class LineKind(Enum):
    """What a line may be, whatever stands around it."""

    PLAIN = auto()
    BORDER = auto()
    BOXED = auto()
    FRAME = auto()
    HEAD = auto()
    CHAIN = auto()
    RAISED = auto()


class _Sorted(dict[str, tuple[LineKind, Any]]):
    """Line -> what it may be, and what it says then; worked out when it is first asked for."""

    def __missing__(self, line: str) -> tuple[LineKind, Any]:
        found = _sorted(line)
        if len(line) <= _LONGEST_FRAME:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[line] = found
        return found


def _sorted(line: str) -> tuple[LineKind, Any]:
    bare = line.strip()
    if not _MATTERS.search(line):
        return (LineKind.CHAIN if bare.startswith(_CHAIN) else LineKind.PLAIN), line
    if bare.startswith(_BORDER_STARTS) and bare.endswith(_BORDER_ENDS):
        return LineKind.BORDER, None
    if bare.startswith(_BAR) and bare.endswith(_BAR):
        return LineKind.BOXED, bare[1:-1].rstrip().removeprefix(" ")
    if len(line) <= _LONGEST_FRAME:
        if bare[:1] in ("|", "+"):
            inside = bare.lstrip(_BESIDE).lstrip()
            line = inside if _IN_GROUP.match(inside) else line
        frame = frame_at(line)
        if frame is not None:
            return LineKind.FRAME, frame
    if TRACEBACK_HEAD in line:
        return LineKind.HEAD, None
    raised = _RAISED.match(line.strip())
    return (LineKind.RAISED, (line, raised)) if raised else (LineKind.PLAIN, line)


def read_pasted(text: str | bytes) -> tuple[Stream, ...]:
    """What every process in a text said, in the order in which they first spoke."""
    kinds = _Sorted()
    readers: dict[str, _Reader] = {}
    for piece in cleaned_pieces(text):
        said: dict[str, list[str]] = {}
        for rank, lines in piece.items():
            if rank not in readers and len(readers) >= _MOST_STREAMS:
                rank = ""
            readers.setdefault(rank, _Reader(kinds=kinds))
            said.setdefault(rank, []).extend(lines)
        for rank, lines in said.items():
            readers[rank].read(lines)
    return tuple(reader.stream(rank) for rank, reader in readers.items())


@dataclass(kw_only=True)
class _Reader:
    """One walk over the lines of a stream."""

    kinds: _Sorted
    log: ErrorLog = field(default_factory=ErrorLog)
    scan: Scan = field(default_factory=Scan)
    frames: list[PastedFrame] = field(default_factory=list)
    raised: tuple[str, tuple[PastedFrame, ...]] | None = None
    """Type and frames of the last error, while its message goes on."""
    message: list[str] = field(default_factory=list)
    """Lines of that message."""
    box: list[str] = field(default_factory=list)
    """The head of a frame in a box, as far as it was read."""
    code: str = ""
    """The line above, for what is underlined in it."""
    below: int = _MOST_BELOW
    """Lines below the last frame."""

    def read(self, lines: Sequence[str]) -> None:
        """Go on with these lines."""
        text = "\n".join(lines)
        self.scan.read(text)
        if self.raised is None and self.below >= _MOST_BELOW and not _MATTERS.search(text):
            return
        kinds = self.kinds
        for line in lines:
            kind, said = kinds[line]
            if kind is LineKind.PLAIN:
                if self.raised is not None or self.below < _MOST_BELOW:
                    self._plain(said)
            else:
                self._line(kind, said)

    def stream(self, rank: str) -> Stream:
        """All that was said, at its end."""
        self._end_message()
        self.scan.end()
        return Stream(rank=rank, scan=self.scan, errors=self.log.errors, left_out=self.log.left_out)

    def _line(self, kind: LineKind, said: Any) -> None:
        if kind is LineKind.BOXED:
            self._boxed(said)
        elif kind is LineKind.RAISED:
            line, match = said
            if self.raised is not None:
                self._message_line(line)
            else:
                self._begin_message(match)
        elif kind is LineKind.CHAIN:
            self._end_message()
            self._plain(said)
        elif kind is LineKind.BORDER:
            self.box.clear()
            self._end_message()
        else:
            self._end_message()
            if kind is LineKind.FRAME:
                self._add_frame(said)
            else:
                self._forget_frames()

    def _plain(self, line: str) -> None:
        if self.raised is not None:
            self._message_line(line)
        elif self.frames:
            self._below_frame(line)

    def _begin_message(self, match: re.Match[str]) -> None:
        self.raised = match["type"], tuple(self.frames)
        self.message = [match["message"] or ""]
        self._forget_frames()

    def _add_frame(self, frame: PastedFrame) -> None:
        self.frames.append(frame)
        if len(self.frames) > _OUTER_FRAMES + _INNER_FRAMES:
            del self.frames[_OUTER_FRAMES]
        self.below = 0

    def _forget_frames(self) -> None:
        self.frames.clear()
        self.below = _MOST_BELOW

    def _below_frame(self, line: str) -> None:
        self.below += 1
        if line.lstrip().startswith(_REPEATED):
            return
        last = self.frames[-1]
        if is_underline(line):
            self.frames[-1] = replace(last, failing=failing_part(self.code, line))
            self.below = _MOST_BELOW
        else:
            self.frames[-1] = with_line(last, line)
            if last.text and line.strip():
                self.below = _MOST_BELOW
        self.code = line

    def _boxed(self, content: str) -> None:
        """A line of rich: the head of a frame may take several of them."""
        self.box.append(content.strip())
        joined = "".join(self.box)
        frame = boxed_frame(joined) if starts_like_path(joined) else None
        if frame is not None:
            self._add_frame(frame)
            self.below = _MOST_BELOW
            self.box.clear()
        elif (
            content.startswith(" ")
            or not starts_like_path(joined)
            or len(self.box) >= _MOST_BOX_LINES
            or len(joined) > _LONGEST_BOX
        ):
            self.box.clear()
            if self.frames and "❱" in content:
                self.frames[-1] = with_line(self.frames[-1], content)

    def _message_line(self, line: str) -> None:
        # [notes] devplan's own note may stand there already: it is no part of the message.
        is_note = line.startswith("devplan: ")
        if not line.strip() or is_note or len(self.message) >= _LONGEST_MESSAGE:
            self._end_message()
        else:
            self.message.append(line)

    def _end_message(self) -> None:
        if self.raised is not None:
            kind, frames = self.raised
            self.log.add(kind, "\n".join(self.message).strip(), frames)
            self.raised = None
