"""A limit on the time that a run may take."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from devplan.errors import InputError


class OutOfTime(InputError):
    """The run took longer than it was allowed to."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Stop what runs inside after so many seconds; needs the main thread of a Unix process."""
    if seconds is None:
        yield
        return
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        raise InputError("a time limit needs the main thread on Linux or macOS; leave it out")

    def stop(*_: Any) -> None:
        raise OutOfTime(f"out of time: the run took more than {seconds:g} s; raise --timeout")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
