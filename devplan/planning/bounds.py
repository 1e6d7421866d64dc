"""What no placement can go below, contiguous or not.

Three arguments, all about loads alone:

* *volume*: the largest share is at least all loads over all budgets;
* *largest block*: it lies somewhere, at best on the largest card;
* *counting*: for any size ``t``, a card that holds blocks ``x1, x2, ...`` within ``s * budget``
  satisfies ``sum floor(xi / t) <= floor(s * budget / t)``, since rounding down a sum loses no more
  than rounding down its parts.  So all blocks together need ``sum floor(x / t)`` places of size
  ``t``, and the cards must offer as many.  With ``t`` the size of a layer this says that a card
  holds whole layers: 80 layers and two matrices of more than a layer's size on 8 cards put 11 of
  82 on some card.

The counting bound is tried for the sizes that occur and for halves of them; any ``t`` is valid, so
trying few costs tightness only.  Shares are exact fractions.

References
----------
S. P. Fekete and J. Schepers, "New classes of fast lower bounds for bin packing problems",
Mathematical Programming 91 (2001), 11-31: dual feasible functions, of which this is the simplest.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

MAX_SIZES = 12
"""Sizes tried, those first that make up most of the volume; models have fewer than ten."""
PARTS = (1, 2)
"""Each size is tried whole and as two halves."""


def lower_bound(
    loads_bytes: np.ndarray, budgets_bytes: Sequence[int], bases_bytes: Sequence[int] | None = None
) -> Fraction:
    """A share that no placement of these loads on these cards goes below.

    Parameters
    ----------
    loads_bytes
        Load of every block; blocks that must lie together count as one.  # [blocks], int64
    budgets_bytes
        What each card may hold.
    bases_bytes
        What each card holds already, whatever is placed; nothing when None.
    """
    cards = list(zip(budgets_bytes, bases_bytes or [0] * len(budgets_bytes), strict=True))
    total = int(loads_bytes.sum()) + sum(base for _, base in cards)
    largest = int(loads_bytes.max(initial=0))
    bound = max(
        Fraction(total, sum(budgets_bytes)),
        min(Fraction(largest + base, budget) for budget, base in cards),
        *(Fraction(base, budget) for budget, base in cards),
    )
    for size, parts in _sizes(loads_bytes):
        num_needed = int((loads_bytes * parts // size).sum())
        bound = _raised(bound, size, parts, num_needed, cards)
    return bound


def exceeds(loads_bytes: np.ndarray, budgets_bytes: Sequence[int]) -> bool:
    """Whether the same arguments prove that these loads do not fit, without the share itself."""
    if loads_bytes.sum() > sum(budgets_bytes) or loads_bytes.max(initial=0) > max(budgets_bytes):
        return True
    return any(
        int((loads_bytes * parts // size).sum()) > sum(b * parts // size for b in budgets_bytes)
        for size, parts in _sizes(loads_bytes)
    )


def _sizes(loads_bytes: np.ndarray) -> list[tuple[int, int]]:
    """(size, parts): thresholds ``size / parts`` to count with, the most promising first."""
    sizes, counts = np.unique(loads_bytes[loads_bytes > 0], return_counts=True)
    order = np.argsort(-(sizes * counts), kind="stable")[:MAX_SIZES]
    return [(int(sizes[index]), parts) for index in order for parts in PARTS]


def _raised(
    bound: Fraction, size: int, parts: int, num_needed: int, cards: list[tuple[int, int]]
) -> Fraction:
    """The smallest share from `bound` on at which the cards offer that many places."""
    places = [_num_places(bound, size, parts, budget, base) for budget, base in cards]
    while sum(places) < num_needed:
        share, card = min(
            (Fraction(parts * base + (held + 1) * size, parts * budget), index)
            for index, ((budget, base), held) in enumerate(zip(cards, places, strict=True))
        )
        places[card] += 1
        bound = max(bound, share)
    return bound


def _num_places(share: Fraction, size: int, parts: int, budget: int, base: int) -> int:
    """Places of ``size / parts`` bytes beside the base at a share."""
    room = share.numerator * budget // share.denominator - base
    return max(room, 0) * parts // size
