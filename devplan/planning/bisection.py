"""Questions about the largest number that still works: tokens, sequences, bytes of reserve."""

from __future__ import annotations

from collections.abc import Callable

MAX_TOKENS = 2**40
"""Beyond any context; a cache that still fits here has stopped growing."""


def largest(works: Callable[[int], bool], *, low: int, high: int | None = None) -> int | None:
    """The largest number from `low` on that works, where all up to it work and none after it.

    None when `low` itself does not work.  Without `high` (a number that is known not to work) the
    search doubles its step, and returns `MAX_TOKENS` when nothing up to there fails.
    """
    if not works(low):
        return None
    step = 1
    while high is None:
        if low + step > MAX_TOKENS:
            return MAX_TOKENS
        if works(low + step):
            low, step = low + step, step * 2
        else:
            high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if works(middle) else (low, middle)
    return low
