"""A limit on time that holds for everything a call does, and that no model's code can swallow.

A thread of our own waits for the time to pass, then raises `TimeIsUp` in the thread that works: no
``Exception``, so that ``except Exception`` lets it pass.  Code that catches it all the same is
interrupted again, soon at every moment, until one strikes where nothing catches it.

* The main thread gets a signal that nobody uses (``SIGURG``, ignored unless handled), which ends a
  ``sleep`` or a read too.  ``SIGALRM`` and the interval timers are the caller's.
* Any other thread, or one whose ``SIGURG`` is taken, gets an asynchronous exception.  It arrives
  between two bytecodes: not in the middle of a call into C.

What keeps the interpreter to itself (one long search of a regular expression) is not interrupted.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import math
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from numbers import Real
from typing import Any, TypeVar

from devplan.core import InputError
from devplan.sandbox.foreign import gate, in_foreign, is_shielded, let_go, shielded

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

MOST_SECONDS = 10**7
"""A hundred days, longer than any run; what is meant to last for ever needs no limit."""

_POLITE = 5
"""Interruptions that foreign code may swallow before they come at every moment."""
_SHIELDED_S, _AGAIN_S, _OURS_S = 0.005, 0.1, 1.0
_HAMMERING_S = (0.0, 0.0, 0.0002, 0.002)
_HAMMERING_SWITCH_S = 1e-6
"""How often threads take turns then: a loop that catches everything has few places that do not."""


class TimeIsUp(BaseException):
    """The time is up; becomes `OutOfTime` where the limit was set."""


class OutOfTime(InputError):
    """A call took longer than it was allowed to."""


def time_limit(name: str, seconds: Any) -> float | None:
    """The seconds of a limit, where None is none: how `devplan.core.arguments.accepts` reads it.

    Raises
    ------
    InputError
        When they are none, with the range.
    """
    if seconds is None:
        return None
    is_number = isinstance(seconds, Real) and not isinstance(seconds, bool)
    if is_number and 0 < seconds <= MOST_SECONDS:
        return float(seconds)
    shown = f"{seconds:g}" if isinstance(seconds, float) else repr(seconds)[:40]
    raise InputError(f"{name} {shown}: give seconds above 0, at most {MOST_SECONDS:,}")


def within(seconds: float | None, work: Callable[[], T]) -> T:
    """What `work` gives, if it ends in time.

    Parameters
    ----------
    seconds
        The limit; None: there is none.

    Raises
    ------
    OutOfTime
        When it does not.
    """
    limit_s = time_limit("timeout_s", seconds)
    if limit_s is None:
        return work()
    limit = _Limit(limit_s)
    late = OutOfTime(f"out of time after {seconds:g} s; raise --timeout (in Python, timeout_s)")
    try:
        try:
            limit.start()
            result = work()
        finally:
            _stop(limit)
    except (Exception, TimeIsUp):
        _stop(limit)
        if limit.is_up:
            raise late from None
        raise
    finally:
        _stop(limit)
    if limit.is_up:  # whoever caught the exception went on with half a result
        raise late
    return result


def _stop(limit: _Limit) -> None:
    """Stop a limit, though it or another one strikes in the middle of that."""
    with contextlib.suppress(TimeIsUp):
        limit.stop()
    limit.stop()


def in_time(function: F) -> F:
    """Let a function end within the ``timeout_s`` that it, or its `options`, are called with."""

    @functools.wraps(function)
    def limited(*args: Any, **kwargs: Any) -> Any:
        of_options = getattr(kwargs.get("options"), "timeout_s", None)
        seconds = kwargs.get("timeout_s", of_options)
        return within(seconds, functools.partial(function, *args, **kwargs))

    return limited  # type: ignore[return-value]


class Insistence:
    """Interrupts this thread, and again, until `stop`: for what catches our exceptions for ever."""

    def __init__(self) -> None:
        self._limit = _Limit(0.0)
        self._limit._num_fired = _POLITE
        self._limit._fired_at = math.inf

    def start(self) -> None:
        """From now on, wherever a model's code is."""
        self._limit.start()

    def stop(self) -> None:
        """No more of it."""
        _stop(self._limit)


class _Limit:
    """Watches one thread for one call."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_up = False
        self._thread = threading.get_ident()
        self._over = threading.Event()
        self._num_fired = 0
        self._fired_at = 0.0
        self._switch_s: float | None = None
        self._is_sent = False
        self._handled_before: Any = None
        self._watch = threading.Thread(target=self._wait, name="devplan-time-limit", daemon=True)

    def start(self) -> None:
        _limits.append(self)
        if self._may_take_the_signal():
            self._handled_before = signal.signal(signal.SIGURG, _on_signal)
        self._watch.start()

    def stop(self) -> None:
        """Interrupt no more, and take back what was sent but did not arrive; twice does no harm."""
        with shielded():
            try:
                with gate:
                    self._over.set()
                    is_sent, self._is_sent = self._is_sent, False
            finally:
                let_go()
            if is_sent and not self._uses_signal():
                _receive()
            if self._watch.ident is not None:
                self._watch.join()
            if self._switch_s is not None:
                sys.setswitchinterval(self._switch_s)
            if self in _limits:
                _limits.remove(self)
            if self._uses_signal():
                signal.signal(signal.SIGURG, self._handled_before)
                self._handled_before = None

    def _may_take_the_signal(self) -> bool:
        is_main = threading.current_thread() is threading.main_thread()
        if not (is_main and hasattr(signal, "SIGURG") and hasattr(signal, "pthread_kill")):
            return False
        free = signal.SIG_DFL, signal.SIG_IGN, _on_signal
        return signal.getsignal(signal.SIGURG) in free

    def _uses_signal(self) -> bool:
        return self._handled_before is not None

    def _hammer(self) -> float:
        if self._switch_s is None:
            self._switch_s = sys.getswitchinterval()
            sys.setswitchinterval(_HAMMERING_SWITCH_S)
        return random.choice(_HAMMERING_S)

    def _is_for_foreign_code(self) -> bool:
        """Whether code of ours is left alone: what undoes a run was interrupted once already."""
        return self._num_fired > 0 and time.monotonic() - self._fired_at < _OURS_S

    def _wait(self) -> None:
        pause = self.seconds
        while not self._over.wait(pause):
            pause = self._fire()

    def _fire(self) -> float:
        """Interrupt the thread, if it may be now; the seconds until it is looked at again."""
        with gate:
            if self._over.is_set():
                return 0.0
            self.is_up = True
            if is_shielded(self._thread) or _is_logging(sys._current_frames().get(self._thread)):
                return _SHIELDED_S
            if self._is_for_foreign_code() and not in_foreign(self._thread):
                return _AGAIN_S
            self._num_fired += 1
            self._fired_at = time.monotonic()
            self._is_sent = True
            if self._uses_signal():
                signal.pthread_kill(self._thread, signal.SIGURG)
            else:
                _raise_in(self._thread, TimeIsUp)
        return _AGAIN_S if self._num_fired < _POLITE else self._hammer()


_limits: list[_Limit] = []
"""Those that are running, of all threads."""


def _on_signal(number: int, frame: Any) -> None:
    """In the main thread; what arrives when nothing is due was sent by somebody else."""
    thread = threading.get_ident()
    sent = [limit for limit in _limits if limit._thread == thread and limit._is_sent]
    for limit in sent:
        limit._is_sent = False
    first = any(limit._num_fired == 1 for limit in sent)
    is_barred = is_shielded(thread) or _is_logging(frame) or _is_lost_in(frame)
    if sent and (first or in_foreign(thread)) and not is_barred:
        raise TimeIsUp


def _is_logging(frame: Any) -> bool:
    """Whether a thread is inside `logging`, which takes a lock and, in places, does not give it
    back if it is interrupted: every other thread that logs would then wait for ever."""
    return frame is not None and frame.f_code.co_filename == logging.__file__


def _is_lost_in(frame: Any) -> bool:
    """Whether Python would print what is raised here, and go on: in a ``__del__``, or its like."""
    while frame is not None:
        code = frame.f_code
        place = code.co_filename
        is_lock = code.co_name == "cb" and place == "<frozen importlib._bootstrap>"
        if code.co_name in _LOST or place.endswith(_CALLBACKS) or is_lock:
            return True
        frame = frame.f_back
    return False


_CALLBACKS = ("weakref.py", "_weakrefset.py")
_LOST = frozenset({"__del__", "_when_freed"})
"""Functions that the interpreter calls by itself; devplan's weak references call the second."""


def _raise_in(thread: int, exception: type[BaseException]) -> None:
    value = ctypes.py_object(exception)
    with contextlib.suppress(AttributeError):  # an interpreter without it
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), value)


def _receive() -> None:
    """Take the exception that was sent to this thread, whether it came already or not.

    CPython 3.11 can forget an exception that did not arrive, but then believes for ever that one
    is due: every thread is slower, and a thread that is traced hangs.
    """
    with contextlib.suppress(TimeIsUp):
        _raise_in(threading.get_ident(), TimeIsUp)
        for _ in range(1000):
            is_shielded(0)
