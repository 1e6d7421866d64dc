"""Errors by whose fault they are.

``InputError`` is the user's: one line with the numbers and the remedy, exit status 2.
``UserCodeError`` is the user's too, but of their code: it carries the traceback that they need.
Any other exception is a bug of devplan's: exit status 70, and a request to report it.
``InternalError`` is a bug of devplan's, and no ``DevplanError``: a promise was not kept.  `ensure`
raises it where an ``assert`` would be lost under ``python -O``.
An infeasible plan is neither: it is a result (``devplan.core.types.Infeasible``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from devplan.core.spelling import near_names

if TYPE_CHECKING:
    from devplan.core.findings import Finding


class DevplanError(Exception):
    """Base of every error that devplan raises on purpose."""


class InputError(DevplanError, ValueError):
    """What the user gave cannot be used; the message is one line and names the remedy."""


class UserCodeError(DevplanError):
    """The user's own code raised; the message is one line, the traceback is theirs to read.

    The exception that was raised is ``__cause__``.

    Attributes
    ----------
    traceback_text : str
        The traceback as Python prints it, from the first frame of the user's code on.
    """

    def __init__(self, message: str, *, traceback_text: str) -> None:
        super().__init__(message)
        self.traceback_text = traceback_text


class DeviceMapError(DevplanError):
    """A model and its map do not fit each other; the message has one line for each difference.

    Attributes
    ----------
    findings : tuple of Finding
        What a check or an audit found, in the order of the lines.
    """

    def __init__(self, message: str, *, findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(message)
        self.findings = findings


class InternalError(RuntimeError):
    """Something that devplan promises itself does not hold: a bug, whatever the user gave."""


class VerificationError(InternalError):
    """A plan that the planner made is wrong; the message says in what."""


def ensure(holds: object, message: str, error: type[InternalError] = InternalError) -> None:
    """Raise `error` unless something holds, also under ``python -O``."""
    if not holds:
        raise error(message)


def one_line(error: BaseException, most: int = 300) -> str:
    """The text of an error in one line of at most so many characters."""
    return " ".join(str(error)[: 4 * most].split())[:most]


def named_line(error: BaseException, most: int = 200) -> str:
    """The class of an error, and its text in one line where it has any."""
    text = one_line(error, most)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def nearest(
    name: str,
    known: Iterable[str],
    *,
    limit: int = 3,
    spelled: Callable[[str], Iterable[str]] = lambda known: (known,),
) -> str:
    """``; did you mean a, b or c?`` for names that `name` may have meant, or an empty string."""
    found = near_names(name, known, limit=limit, spelled=spelled)
    if not found:
        return ""
    listing = found[0] if len(found) == 1 else f"{', '.join(found[:-1])} or {found[-1]}"
    return f"; did you mean {listing}?"
