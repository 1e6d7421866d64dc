"""What a pasted text holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PastedFrame:
    """A frame of a pasted traceback."""

    file: str
    """As it was pasted: of any machine, with either kind of slash."""
    line: int
    function: str = ""
    class_name: str | None = None
    """Where the form of the traceback says it: notebooks do."""
    text: str = ""
    """The line of code."""
    failing: str = ""
    """The part of it that failed, where it is underlined."""


@dataclass(frozen=True, kw_only=True)
class PastedError:
    """An exception with its traceback, outermost frame first."""

    type: str
    message: str
    frames: tuple[PastedFrame, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What one process said."""

    rank: str
    """``rank0``; empty where the text names no process."""
    text: str
    """All of it, cleaned."""
    errors: tuple[PastedError, ...] = ()
    """In the order of the text; of a chain the first is what went wrong first."""
