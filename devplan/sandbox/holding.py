"""The one lock: whoever builds, runs or loads a model changes the process, so one thread at a time.

Its owner may enter again, as `devplan.load` does when it checks a map.  A model's or a user's code
that runs under it may not: the run around it has the process changed already.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from devplan.core import InputError, ensure
from devplan.sandbox.foreign import forget, gate, in_foreign, shielded

F = TypeVar("F", bound=Callable[..., Any])

_POLL_S = 0.05
"""Between two waits a time limit can interrupt a thread that waits."""

NESTED = (
    "a run was started from inside a virtual run, by the model's own code or by a function of "
    "yours; start it before or after"
)

_lock = threading.RLock()
_shared: list[Callable[[], Any]] = []
"""What forgets models that are kept for the next call: one that was interrupted may be left half
changed."""
_owner: list[int] = []
"""The id of the `exclusive` that took the lock."""
_state: list[Any] = []
"""What the process was like when the lock was taken."""


def when_interrupted(forget_shared: Callable[[], Any]) -> None:
    """Call a function when Ctrl-C or a time limit ended what ran under the lock."""
    _shared.append(forget_shared)


def is_held_here() -> bool:
    """Whether this thread has the lock."""
    return _lock._is_owned()


class exclusive:
    """A context that one thread of the process is in at a time.

    Raises
    ------
    InputError
        When it is entered by a model's or a user's code that runs inside.
    """

    _is_outermost = False  # of the class: [Ctrl-C] may strike before `__init__`

    def __enter__(self) -> None:
        if is_held_here():
            _refuse_nested()
            return
        try:
            self._is_outermost = True
            _take()
            _owner[:] = [id(self)]
        except BaseException:
            _give_twice()
            raise

    def __exit__(self, raised: type[BaseException] | None = None, *_: object) -> None:
        # [ExitStack] hands on what another context raised, and has handled it by then.
        if self._is_outermost:
            _give_twice(raised)

    def __del__(self) -> None:
        # [Ctrl-C] may strike on the way into `__exit__`: what nobody holds any more gives the lock.
        if self._is_outermost and is_held_here() and _owner == [id(self)]:
            _give_twice()


def exclusively(function: F) -> F:
    """Let a function be called by one thread of the process at a time; see `exclusive`."""

    @functools.wraps(function)
    def alone(*args: Any, **kwargs: Any) -> Any:
        with exclusive():
            return function(*args, **kwargs)

    return alone  # type: ignore[return-value]


def _refuse_nested() -> None:
    if in_foreign(threading.get_ident()):
        raise InputError(NESTED)


def _take() -> None:
    from devplan.sandbox.state import ProcessState

    while not _lock.acquire(timeout=_POLL_S):
        pass
    _state[:] = [ProcessState()]


def _give(raised: type[BaseException] | None) -> None:
    """Put the process back and release the lock, where this thread has it."""
    if not is_held_here():
        return
    with shielded():
        undo_all()
        raised = raised or sys.exc_info()[0]
        if _state and raised is not None:
            _state[0].restore()
        _state.clear()
        if raised is not None and not issubclass(raised, Exception):
            for forget_shared in _shared:
                forget_shared()
    forget(threading.get_ident())
    while is_held_here():
        _lock.release()


def _give_twice(raised: type[BaseException] | None = None) -> None:
    try:
        _give(raised)
    finally:
        _give(raised)


def _after_fork() -> None:
    """A process that another thread forked during a run has no run, and no owner of the lock."""
    global _lock
    gate._at_fork_reinit()
    if not is_held_here():
        undo_all()
        _state.clear()
        _owner.clear()
        _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# Names of other packages are replaced through `patched` only, under the lock, and put back whatever
# happens: if an exception strikes while one is put back, the end of the lock puts back all of them.


_MISSING = object()
_active: list[patched] = []
"""Those that are in place, the latest last."""


class patched:
    """A context in which an attribute of a module or class has another value.

    Parameters
    ----------
    owner, name
        Whose attribute, and which.
    value
        What it is inside.
    """

    def __init__(self, owner: Any, name: str, value: Any) -> None:
        self.owner, self.name, self.value = owner, name, value
        self.original = _MISSING

    def __enter__(self) -> None:
        ensure(is_held_here(), f"{self.name} is replaced without the lock")
        self.original = vars(self.owner).get(self.name, _MISSING)
        try:
            _active.append(self)
            setattr(self.owner, self.name, self.value)
        except BaseException:
            undo(self)
            raise

    def __exit__(self, *exception: object) -> None:
        undo(self)


def undo(patch: patched) -> None:
    """Put an attribute back; doing so twice does no harm."""
    if patch not in _active:
        return
    if patch.original is _MISSING:
        if patch.name in vars(patch.owner):
            delattr(patch.owner, patch.name)
    else:
        setattr(patch.owner, patch.name, patch.original)
    if patch in _active:
        _active.remove(patch)


def undo_all() -> None:
    """Put back what is still replaced, the latest first."""
    while _active:
        undo(_active[-1])


class patched_here(patched):
    """The same of a function, and only for this thread: others call the original."""

    def __init__(self, owner: Any, name: str, answer: Callable[..., Any]) -> None:
        original, thread = getattr(owner, name), threading.get_ident()

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            here = threading.get_ident() == thread and self in _active
            return (answer if here else original)(*args, **kwargs)

        super().__init__(owner, name, wrapper)
