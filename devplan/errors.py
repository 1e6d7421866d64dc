"""Errors by whose fault they are.

``InputError`` is the user's: one line with the numbers and the remedy, exit status 2.
An ``AssertionError`` anywhere in devplan is a bug of devplan's and may show its traceback.
An infeasible plan is neither: it is a result (``devplan.types.Infeasible``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DevplanError(Exception):
    """Base of every error that devplan raises on purpose."""


class InputError(DevplanError, ValueError):
    """What the user gave cannot be used; the message is one line and names the remedy."""


def nearest(name: str, known: Iterable[str], *, limit: int = 3) -> str:
    """``; did you mean a, b or c?`` for the names closest to `name`, or an empty string."""
    known = list(known)
    folded = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), folded, n=limit, cutoff=0.5)
    found = [folded[match] for match in close]
    if not found:
        return ""
    listing = found[0] if len(found) == 1 else f"{', '.join(found[:-1])} or {found[-1]}"
    return f"; did you mean {listing}?"
