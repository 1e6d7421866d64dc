"""Who may speak on stdout and stderr while a command runs.

Libraries print, warn, log and draw progress bars whenever they like, some of them from C: between
the lines of a report, or into JSON that a program reads.  While `own_streams` holds, stdout is
devplan's alone, down to the file descriptor, and stderr has its lines and no others; what else is
said is dropped, or goes to stderr where it was asked for.  What the user's own code prints goes to
stderr.  Only the command line does this: from Python nobody's streams are touched.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TextIO

_STDOUT, _STDERR = 1, 2
_NAMES_OF_STDOUT = frozenset({"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"})


@dataclass(frozen=True, kw_only=True)
class _Own:
    """The streams as they were before."""

    out: TextIO
    err: TextIO
    verbose: bool


_own: _Own | None = None
_users_code: ContextVar[bool] = ContextVar("devplan_users_code", default=False)


class CannotWrite(Exception):
    """Stdout takes nothing more; the message says why."""


def out() -> TextIO:
    """Stdout, for devplan's own words."""
    return sys.stdout if _own is None else _own.out


def err() -> TextIO:
    """Stderr, for devplan's own words."""
    return sys.stderr if _own is None else _own.err


@contextlib.contextmanager
def users_code() -> Iterator[None]:
    """While code runs that the user named: what it prints is shown, on stderr."""
    token = _users_code.set(True)
    try:
        yield
    finally:
        _users_code.reset(token)


def is_stdout_file(path: str) -> bool:
    """Whether a path is a name of what stdout is, such as /dev/stdout."""
    if path in _NAMES_OF_STDOUT:
        return True
    try:
        return os.path.samestat(os.stat(path), os.fstat(out().fileno()))
    except (OSError, ValueError, AttributeError):  # no such file, or a stdout that is no file
        return False


@contextlib.contextmanager
def own_streams(verbose: bool) -> Iterator[None]:
    """Keep stdout and stderr for devplan; with `verbose` others may speak on stderr.

    Raises
    ------
    CannotWrite
        When what was printed cannot be written to stdout.
    """
    global _own
    if _own is not None:  # a command inside a command: the streams are taken already
        yield
        return
    with contextlib.ExitStack() as stack:
        own_out = stack.enter_context(_kept(sys.stdout, _STDOUT))
        own_err = stack.enter_context(_kept(sys.stderr, _STDERR))
        before = sys.stdout, sys.stderr
        _own = _Own(out=own_out, err=own_err, verbose=verbose)
        sys.stdout, sys.stderr = _Theirs(_STDOUT), _Theirs(_STDERR)
        try:
            yield
            flush(own_out)
        finally:
            sys.stdout, sys.stderr = before
            _own = None


def flush(stream: TextIO) -> None:
    """Write what is still to be written.

    Raises
    ------
    CannotWrite
        When stdout does not take it.
    BrokenPipeError
        When nobody reads it.
    """
    try:
        stream.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        raise CannotWrite(getattr(error, "strerror", None) or "it is closed") from error


@contextlib.contextmanager
def _kept(stream: TextIO, number: int) -> Iterator[TextIO]:
    """The stream itself, or one to a copy of its descriptor while the descriptor is others'."""
    if not _is_of_the_process(stream, number):
        yield stream
        return
    with contextlib.suppress(OSError, ValueError):
        stream.flush()
    copy = os.dup(number)
    kept = io.TextIOWrapper(
        os.fdopen(copy, "wb"),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=number == _STDERR or stream.isatty(),
    )
    _point(number, os.devnull)
    try:
        yield kept
    finally:
        with contextlib.suppress(OSError, ValueError):
            kept.flush()
        os.dup2(copy, number)
        _close(kept, copy)


def _point(number: int, path: str) -> None:
    """Let a descriptor stand for another file."""
    opened = os.open(path, os.O_WRONLY)
    os.dup2(opened, number)
    os.close(opened)


def _close(stream: TextIO, copy: int) -> None:
    """Close a stream; what it could not write goes nowhere, so that it does not fail again."""
    _point(copy, os.devnull)
    with contextlib.suppress(OSError, ValueError):
        stream.close()


def _is_of_the_process(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError, AttributeError):
        return False


class _Theirs(io.TextIOBase):
    """What others have for stdout or stderr.

    A library keeps it, in a handler of its log, beyond the command: then it is the stream of the
    process again.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return False

    @property
    def buffer(self) -> _TheirBytes:
        return _TheirBytes(self)

    def write(self, text: str) -> int:
        target = self._target()
        if target is not None:
            encoding = getattr(target, "encoding", None) or "utf-8"
            target.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        target = self._target()
        if target is not None:
            target.flush()

    def _target(self) -> TextIO | None:
        if _own is not None:
            return _own.err if _own.verbose or _users_code.get() else None
        now = sys.stdout if self._number == _STDOUT else sys.stderr
        return None if now is self else now


class _TheirBytes(io.RawIOBase):
    """The bytes below `_Theirs`."""

    def __init__(self, text: _Theirs) -> None:
        self._text = text

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        self._text.write(bytes(data).decode("utf-8", "backslashreplace"))
        return len(data)
