"""What a pasted text holds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from devplan.diagnosis.messages import Recognised, Scan, recognise


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
    recognised: Recognised | None = field(default=None, compare=False)
    """Which message of the table it is."""
    count: int = field(default=1, compare=False)
    """How often the text says it, word for word."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What one process said."""

    rank: str
    """``rank0``; empty where the text names no process."""
    scan: Scan
    """The messages of the table that stand anywhere in it."""
    errors: tuple[PastedError, ...] = ()
    """In the order of the text; of a chain the first is what went wrong first."""
    left_out: int = 0
    """Errors between the first and the last ones that were not kept."""


MOST_AT_AN_END = 100


class ErrorLog:
    """Errors as they come, each once and counted: the first ones and the last ones of each kind.

    What the table knows and what it does not are kept apart, so that neither drives the other out.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple, int] = {}
        self._first: tuple[dict[tuple, PastedError], ...] = ({}, {})
        self._last: tuple[dict[tuple, PastedError], ...] = ({}, {})
        self.left_out = 0
        """How many were not kept."""

    def add(self, kind: str, message: str, frames: tuple[PastedFrame, ...]) -> None:
        """Count an error that was kept, or keep it."""
        key = (kind, message, frames)
        if key in self._counts:
            self._counts[key] += 1
            return
        error = PastedError(
            type=kind, message=message, frames=frames, recognised=recognise(message)
        )
        self._counts[key] = 1
        unknown = error.recognised is None
        row = self._first[unknown]
        if len(row) >= MOST_AT_AN_END:
            row = self._last[unknown]
        row[key] = error
        if len(row) > MOST_AT_AN_END:
            oldest = next(iter(row))
            del row[oldest]
            self.left_out += self._counts.pop(oldest)

    @property
    def errors(self) -> tuple[PastedError, ...]:
        """In the order in which they came."""
        kept = {key: error for row in (*self._first, *self._last) for key, error in row.items()}
        return tuple(replace(kept[key], count=count) for key, count in self._counts.items())
