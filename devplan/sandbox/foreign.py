"""Whose code a thread is running: a model's or a user's, or ours; and where it may be interrupted.

Time limits interrupt a thread at any bytecode.  Foreign code may be interrupted again and again,
until it gives up; what undoes a run must not be (`shielded`).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_depths: dict[int, int] = {}
"""Thread -> how often it entered foreign code."""
_shields: dict[int, int] = {}
"""Thread -> how often it entered what may not be interrupted."""
gate = threading.RLock()
"""Held by who interrupts a thread, and by a thread that puts up its shield."""


def let_go() -> None:
    """Release the gate where this thread has it: an interruption may strike at the end of a
    ``with`` before the lock is released, and who interrupts would wait for ever."""
    while gate._is_owned():
        gate.release()


def run_foreign(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a function of a model's or a user's; a run started from inside is refused."""
    thread = threading.get_ident()
    before = _depths.get(thread, 0)
    # [twice] an exception of a time limit or of Ctrl-C may come right after the first.
    try:
        try:
            _depths[thread] = before + 1
            return function(*args, **kwargs)
        finally:
            _depths[thread] = before
    finally:
        _depths[thread] = before


def in_foreign(thread: int) -> bool:
    """Whether a thread is running a model's or a user's code."""
    return _depths.get(thread, 0) > 0


def is_shielded(thread: int) -> bool:
    """Whether a thread must not be interrupted now."""
    return _shields.get(thread, 0) > 0


def forget(thread: int) -> None:
    """Nothing of ours runs in a thread any more."""
    _depths.pop(thread, None)
    _shields.pop(thread, None)


class shielded:
    """A context in which no time limit interrupts this thread; what is due waits until its end."""

    def __enter__(self) -> None:
        self.thread = threading.get_ident()
        self.before = _shields.get(self.thread, 0)
        try:
            with gate:
                _shields[self.thread] = self.before + 1
            _deliver()
        except BaseException:
            let_go()
            _shields[self.thread] = self.before
            raise

    def __exit__(self, *exception: object) -> None:
        _shields[self.thread] = self.before
        if not self.before:
            _shields.pop(self.thread, None)


def _deliver() -> None:
    """A call: what was sent to this thread before its shield was up is raised here."""
    _nothing()


def _nothing() -> None: ...


class CurrentFolderVisible:
    """While a module that the user named is imported or called: the current folder comes first on
    the path, as it does for ``python -m``.  At all other times it is not there (see `devplan`)."""

    def __enter__(self) -> None:
        here = _here()
        is_there = here is None or here in sys.path or "" in sys.path
        self.added = None if is_there else here
        if self.added is not None:
            sys.path.insert(0, self.added)

    def __exit__(self, *_: object) -> None:
        if self.added in sys.path:
            sys.path.remove(self.added)


def _here() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None
