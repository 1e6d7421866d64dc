"""Placements whose stages are not contiguous, for when no contiguous one fits.

Items are packed by size and activations alone (`patterns`), exactly within a limit on steps, else
by best fit and local moves (`moves`).  The smallest share is found by bisection: a trial that
succeeds lowers the upper end to what its packing attains, one that fails raises the lower end.  All
loads of a slot are its base and a multiple of the common divisor of the items, so the search ends
when no such load lies between.

Then the items of each class are dealt out along the chain so that the slot changes seldom, and
improved by exchanges.  The share is proven where no search was given up; the number of transfers
is not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd

from devplan.core import ensure
from devplan.planning.problem import Assignment, Problem, most_held, share_of, share_to_hold
from devplan.planning.solvers.moves import deal_out, exchange, improve
from devplan.planning.solvers.patterns import Classes, TooManyStepsError, fill_slots

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
    return _with_exchanges(problem, _trial(problem, _Sorted(problem), share, max_steps))


def fits(problem: Problem, *, max_steps: int = MAX_STEPS) -> bool:
    """Whether an assignment within the budgets was found; its transfers are not asked for."""
    return _trial(problem, _Sorted(problem), Fraction(1), max_steps).assignment is not None


def pack(problem: Problem, *, max_steps: int = MAX_STEPS) -> Packing:
    """The assignment with the smallest share that was found, and whether it is proven smallest.

    The bisection ends early, and unproven, at the first trial whose search was given up.
    """
    items = _Sorted(problem)
    low = items.floor()
    best = _trial(problem, items, items.ceiling(), max_steps)
    ensure(best.assignment is not None, "everything fits on one slot at this share")
    high = share_of(problem, best.assignment)
    share, proven = low, True
    while proven and share < high:
        trial = _trial(problem, items, share, max_steps)
        proven = trial.proven
        if trial.assignment is not None:
            best, high = trial, share_of(problem, trial.assignment)
        else:
            low = share
        if not items.has_load_between(low, high):
            break
        middle = Fraction(float(low + high) / 2)
        share = middle if low < middle < high else (low + high) / 2
    found = Packing(assignment=best.assignment, proven=proven)
    return _with_exchanges(problem, found)


def _trial(problem: Problem, items: _Sorted, share: Fraction, max_steps: int) -> Packing:
    try:
        filled = fill_slots(items.classes, items.rooms(share), max_steps=max_steps)
    except TooManyStepsError:
        return _best_fit(problem, items, share)
    dealt = None if filled is None else deal_out(problem, items.kinds, filled)
    return Packing(assignment=dealt, proven=True)


def _with_exchanges(problem: Problem, packing: Packing) -> Packing:
    if packing.assignment is None:
        return packing
    return replace(packing, assignment=exchange(problem, packing.assignment))


class _Sorted:
    """The free items of a problem by class, and what the slots can hold."""

    def __init__(self, problem: Problem) -> None:
        free = [item for item in range(len(problem.loads_bytes)) if item not in problem.pinned]
        pairs = [(problem.loads_bytes[item], problem.active[item]) for item in free]
        self.pairs = sorted(set(pairs), reverse=True)
        """(load, activations) of each class."""
        rank = {pair: kind for kind, pair in enumerate(self.pairs)}
        self.kinds = dict(zip(free, (rank[pair] for pair in pairs), strict=True))
        """Free item -> its class."""
        self.levels = sorted({0, *(needed for _, needed in self.pairs)})
        self.counts = Counter(self.kinds.values())
        self.classes = Classes(
            sizes=tuple(load for load, _ in self.pairs),
            counts=tuple(self.counts[kind] for kind in range(len(self.pairs))),
            levels=tuple(self.levels.index(needed) for _, needed in self.pairs),
        )
        self.bases = [slot.base_bytes for slot in problem.slots]
        self.active = [slot.active_bytes for slot in problem.slots]
        for item, slot in problem.pinned.items():
            self.bases[slot] += problem.loads_bytes[item]
            self.active[slot] = max(self.active[slot], problem.active[item])
        self.budgets = [slot.budget_bytes for slot in problem.slots]

    def rooms(self, share: Fraction) -> list[list[int]]:
        """Besides what lies there already.  # slots x [levels]"""
        return [
            [most_held(share, self.room(slot, needed)) - base for needed in self.levels]
            for slot, base in enumerate(self.bases)
        ]

    def room(self, slot: int, needed: int) -> int:
        """Of a slot on which nothing free needs more."""
        return self.budgets[slot] - max(self.active[slot], needed)

    def floor(self) -> Fraction:
        """No assignment has a smaller share: base loads and volume."""
        rooms = [self.room(slot, 0) for slot in range(len(self.bases))]
        return max(
            Fraction(self._volume() + sum(self.bases), sum(max(room, 1) for room in rooms)),
            *map(share_to_hold, self.bases, rooms),
        )

    def ceiling(self) -> Fraction:
        """Everything on one slot, the one that takes it best."""
        volume, most = self._volume(), self.levels[-1]
        alone = min(
            share_to_hold(volume + base, self.room(slot, most))
            for slot, base in enumerate(self.bases)
        )
        return max(alone, self.floor())

    def has_load_between(self, low: Fraction, high: Fraction) -> bool:
        """Whether some slot could have a load whose share is above `low` and below `high`."""
        unit = gcd(*self.classes.sizes) or 1
        return any(
            share_to_hold(_above(low, self.room(slot, needed), base, unit), room) < high
            for slot, base in enumerate(self.bases)
            for needed in self.levels
            for room in (self.room(slot, needed),)
        )

    def _volume(self) -> int:
        return sum(map(int.__mul__, self.classes.sizes, self.classes.counts))


def _above(share: Fraction, room: int, base: int, unit: int) -> int:
    """Smallest ``base + k * unit`` whose share of the room is above `share`."""
    held = most_held(share, room) - base
    return base + max(held // unit + 1, 0) * unit


def _best_fit(problem: Problem, items: _Sorted, share: Fraction) -> Packing:
    """Each item where the least room is left, what needs most activations and is largest first;
    then moves.  Proves nothing when it fails."""
    start = [problem.pinned.get(item, 0) for item in range(len(problem.loads_bytes))]
    held, active = list(items.bases), list(items.active)
    for item in sorted(items.kinds, key=lambda i: (-problem.active[i], -problem.loads_bytes[i], i)):
        load, needed = problem.loads_bytes[item], problem.active[item]
        left = [
            most_held(share, items.budgets[slot] - max(active[slot], needed)) - held[slot] - load
            for slot in range(len(held))
        ]
        slot = min(range(len(left)), key=lambda slot: (left[slot] < 0, abs(left[slot])))
        held[slot] += load
        active[slot] = max(active[slot], needed)
        start[item] = slot
    found = improve(problem, tuple(start), share)
    if share_of(problem, found) > share:
        return Packing(assignment=None, proven=False)
    filled = [[0] * len(items.pairs) for _ in held]
    for item, kind in items.kinds.items():
        filled[found[item]][kind] += 1
    return Packing(assignment=deal_out(problem, items.kinds, filled), proven=False)
