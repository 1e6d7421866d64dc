"""Placements whose stages are not contiguous, for when no contiguous one fits.

Items are packed by size alone (`patterns`), exactly within a limit on steps, else by best fit.
The smallest share is found by bisection: a trial that succeeds lowers the upper end to what its
packing attains, one that fails raises the lower end.  All loads of a slot are its base and a
multiple of the common divisor of the items, so the search ends when no such load lies between.

Then the items of each size are dealt out along the chain so that the slot changes seldom, and
improved by exchanges.  The share is proven where no search was given up; the number of transfers
is not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd

from devplan.planning.problem import Assignment, Problem, share_of
from devplan.planning.solvers.exchange import deal_out, exchange
from devplan.planning.solvers.patterns import TooManyStepsError, fill_slots

MAX_STEPS = 100_000
"""Of one search; 0.1 to 0.2 s on one core."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """An assignment, and whether no other has a smaller share."""

    assignment: Assignment | None
    proven: bool


def solve(problem: Problem) -> Assignment | None:
    """An assignment of any kind with the smallest share that was found."""
    return pack(problem).assignment


def pack_within(
    problem: Problem, share: Fraction = Fraction(1), *, max_steps: int = MAX_STEPS
) -> Packing:
    """An assignment within the share, or none; `proven` tells whether none exists."""
    return _with_exchanges(problem, _trial(problem, _Sizes(problem), share, max_steps))


def fits(problem: Problem, *, max_steps: int = MAX_STEPS) -> bool:
    """Whether an assignment within the budgets was found; its transfers are not asked for."""
    return _trial(problem, _Sizes(problem), Fraction(1), max_steps).assignment is not None


def pack(problem: Problem, *, max_steps: int = MAX_STEPS) -> Packing:
    """The assignment with the smallest share that was found, and whether it is proven smallest.

    The bisection ends early, and unproven, at the first trial whose search was given up.
    """
    sizes = _Sizes(problem)
    low = sizes.floor()
    best = _trial(problem, sizes, sizes.ceiling(), max_steps)
    assert best.assignment is not None, "everything fits on one slot at this share"
    high = share_of(problem, best.assignment)
    share, proven = low, True
    while proven and share < high:
        trial = _trial(problem, sizes, share, max_steps)
        proven = trial.proven
        if trial.assignment is not None:
            best, high = trial, share_of(problem, trial.assignment)
        else:
            low = share
        if not sizes.has_load_between(low, high):
            break
        middle = Fraction(float(low + high) / 2)
        share = middle if low < middle < high else (low + high) / 2
    found = Packing(assignment=best.assignment, proven=proven)
    return _with_exchanges(problem, found)


def _trial(problem: Problem, sizes: _Sizes, share: Fraction, max_steps: int) -> Packing:
    try:
        filled = fill_slots(sizes.sizes, sizes.counts, sizes.rooms(share), max_steps=max_steps)
    except TooManyStepsError:
        return _best_fit(problem, sizes, share)
    dealt = None if filled is None else deal_out(problem, sizes.free, filled)
    return Packing(assignment=dealt, proven=True)


def _with_exchanges(problem: Problem, packing: Packing) -> Packing:
    if packing.assignment is None:
        return packing
    return replace(packing, assignment=exchange(problem, packing.assignment))


class _Sizes:
    """The free items of a problem by size, and what the slots can hold."""

    def __init__(self, problem: Problem) -> None:
        self.slots = problem.slots
        self.free = [i for i in range(len(problem.loads_bytes)) if i not in problem.pinned]
        loads = Counter(problem.loads_bytes[item] for item in self.free)
        self.sizes = sorted(loads, reverse=True)
        self.counts = [loads[size] for size in self.sizes]
        self.bases = [slot.base_bytes for slot in problem.slots]
        for item, slot in problem.pinned.items():
            self.bases[slot] += problem.loads_bytes[item]

    def rooms(self, share: Fraction) -> list[int]:
        return [
            share.numerator * slot.budget_bytes // share.denominator - base
            for slot, base in zip(self.slots, self.bases, strict=True)
        ]

    def floor(self) -> Fraction:
        """No assignment has a smaller share: base loads and volume."""
        pairs = list(zip(self.slots, self.bases, strict=True))
        budget = sum(slot.budget_bytes for slot in self.slots)
        return max(
            Fraction(self._volume() + sum(self.bases), budget),
            *(Fraction(base, slot.budget_bytes) for slot, base in pairs),
        )

    def ceiling(self) -> Fraction:
        """Everything on one slot, the one that takes it best."""
        pairs = list(zip(self.slots, self.bases, strict=True))
        alone = min(Fraction(self._volume() + base, slot.budget_bytes) for slot, base in pairs)
        return max(alone, self.floor())

    def has_load_between(self, low: Fraction, high: Fraction) -> bool:
        """Whether some slot could have a load whose share is above `low` and below `high`."""
        unit = gcd(*self.sizes) or 1
        return any(
            _above(low, slot.budget_bytes, base, unit) * high.denominator
            < high.numerator * slot.budget_bytes
            for slot, base in zip(self.slots, self.bases, strict=True)
        )

    def _volume(self) -> int:
        return sum(size * count for size, count in zip(self.sizes, self.counts, strict=True))


def _above(share: Fraction, budget: int, base: int, unit: int) -> int:
    """Smallest ``base + k * unit`` whose share is above `share`."""
    held = share.numerator * budget // share.denominator - base
    return base + max(held // unit + 1, 0) * unit


def _best_fit(problem: Problem, sizes: _Sizes, share: Fraction) -> Packing:
    """Largest item first, each where the least room is left; proves nothing when it fails."""
    rooms = sizes.rooms(share)
    filled = [[0] * len(sizes.sizes) for _ in rooms]
    for index, (size, count) in enumerate(zip(sizes.sizes, sizes.counts, strict=True)):
        for _ in range(count):
            fitting = [slot for slot, room in enumerate(rooms) if room >= size]
            if not fitting:
                return Packing(assignment=None, proven=False)
            slot = min(fitting, key=lambda slot: rooms[slot])
            rooms[slot] -= size
            filled[slot][index] += 1
    return Packing(assignment=deal_out(problem, sizes.free, filled), proven=False)
