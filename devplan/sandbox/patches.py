"""Names of other packages that are replaced for a while, and put back whatever happens.

Every replacement goes through `patched`; it needs the lock of `devplan.sandbox.holding`.  Should an
exception strike in the middle of putting one back, the end of the lock puts all of them back.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from devplan.core import ensure

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
        from devplan.sandbox.holding import is_held_here

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
