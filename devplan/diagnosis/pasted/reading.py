"""Lines to errors: frames are gathered until the line that says what was raised."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from devplan.diagnosis.pasted.cleaning import cleaned_lines
from devplan.diagnosis.pasted.errors import PastedError, PastedFrame, Stream
from devplan.diagnosis.pasted.frames import (
    boxed_frame,
    failing_part,
    frame_at,
    is_underline,
    with_line,
)

_HEAD = re.compile(r"Traceback \(most recent call last\)")
_RAISED = re.compile(
    r"^(?P<type>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Warning|Interrupt|Exit|Group|Said))"
    r"(?::\s?(?P<message>.*))?$"
)
_CHAIN = re.compile(
    r"^(?:During handling of the above exception, another exception occurred:"
    r"|The above exception was the direct cause of the following exception:)"
)
_BAR = "│"
_BORDER = re.compile(r"[╭╰┌└].*[╮╯┐┘]$")
_REPEATED = re.compile(r"^\s*\[Previous line repeated \d+ more times\]")
_GROUP = re.compile(r"^\s*(?:[+|][-+ |]*)(?=\s*(?:File |Traceback|[\w.]+(?:Error|Exception)))")
"""What Python draws beside the tracebacks of an exception group."""
_LONGEST_FRAME = 500
"""Characters of a line that may open a frame."""
_LONGEST_MESSAGE = 40
"""Lines; what follows an error without an empty line between is not all its message."""


def read_pasted(text: str) -> tuple[Stream, ...]:
    """What every process in a text said, in the order in which they first spoke."""
    streams: dict[str, list[str]] = {}
    for rank, line in cleaned_lines(text):
        streams.setdefault(rank, []).append(line)
    return tuple(
        Stream(rank=rank, text="\n".join(lines), errors=_Reader().read(lines))
        for rank, lines in streams.items()
    )


@dataclass
class _Reader:
    """One walk over the lines of a stream."""

    frames: list[PastedFrame] = field(default_factory=list)
    errors: list[PastedError] = field(default_factory=list)
    message: list[str] | None = None
    """Lines of the message of the last error, while it goes on."""
    box: str = ""
    """The head of a frame in a box, as far as it was read."""
    code: str = ""
    """The line above, for what is underlined in it."""

    def read(self, lines: list[str]) -> tuple[PastedError, ...]:
        for line in lines:
            self._line(line)
        self._end_message()
        return tuple(self.errors)

    def _line(self, line: str) -> None:
        bare = line.strip()
        if _BORDER.match(bare):
            self.box = ""
            self._end_message()
        elif bare.startswith(_BAR) and bare.endswith(_BAR):
            self._boxed(bare[1:-1].rstrip().removeprefix(" "))
        elif bare[:1] in ("|", "+") and len(line) <= _LONGEST_FRAME:
            self._plain(_GROUP.sub("", line, count=1))
        else:
            self._plain(line)

    def _plain(self, line: str) -> None:
        frame = frame_at(line) if len(line) <= _LONGEST_FRAME else None
        if frame is not None or _HEAD.search(line) or _CHAIN.match(line.strip()):
            self._end_message()
        if frame is not None:
            self.frames.append(frame)
        elif _HEAD.search(line):
            self.frames.clear()
        elif self.message is not None:
            self._message_line(line)
        elif raised := _RAISED.match(line.strip()):
            self.errors.append(
                PastedError(type=raised["type"], message="", frames=tuple(self.frames))
            )
            self.frames.clear()
            self.message = [raised["message"] or ""]
        elif self.frames:
            self._below_frame(line)

    def _below_frame(self, line: str) -> None:
        if _REPEATED.match(line):
            return
        if is_underline(line):
            failing = failing_part(self.code, line)
            self.frames[-1] = replace(self.frames[-1], failing=failing)
        else:
            self.frames[-1] = with_line(self.frames[-1], line)
        self.code = line

    def _boxed(self, content: str) -> None:
        """A line of rich: the head of a frame may take several of them."""
        joined = f"{self.box}{content.strip()}" if self.box else content.strip()
        frame = boxed_frame(joined)
        if frame is not None:
            self.frames.append(frame)
            self.box = ""
        elif re.match(r"^(?:~|/|[A-Za-z]:[\\/])", joined) and not content.startswith(" "):
            self.box = joined
        else:
            self.box = ""
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
        if self.message is not None:
            text = "\n".join(self.message).strip()
            self.errors[-1] = replace(self.errors[-1], message=text)
            self.message = None
