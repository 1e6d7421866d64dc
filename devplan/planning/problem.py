"""What a solver is asked and what it answers, in bytes and indices only.

The planner has already done away with names, ties, default pins and tokens: what is left is a row
of *items* (what is spread over the cards, in execution order) and a row of *slots* (the cards,
with what lies on them already).  Items of a slot run one after another, so that a slot keeps room
for the activations of the one that needs most: its *room* is its budget less these.  The *share* of
a slot is ``(base + its items) / room``; the share of an assignment is the largest over all slots,
and at most 1 when everything fits.  Shares are exact fractions, so that equal is equal.

An assignment is *contiguous* when the items of every slot follow one another.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from devplan.core import ensure


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A card as a solver sees it."""

    device: str
    budget_bytes: int
    base_bytes: int = 0
    """What is on the card whatever the solver does: pinned blocks, room for onloading."""
    active_bytes: int = 0
    """Activations of what runs on the card whatever the solver does, the most at a time."""
    in_use: bool = False
    """Whether the card is used even without items; such a card costs nothing in `fewest`."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Items in execution order, to be spread over slots."""

    loads_bytes: tuple[int, ...]
    slots: tuple[Slot, ...]
    activations_bytes: tuple[int, ...] = ()
    """What every item needs while it runs; empty: nothing."""
    pinned: Mapping[int, int] = field(default_factory=dict)
    """Item -> slot on which it must be."""
    first: int | None = None
    """Slot that runs what comes before the first item; None when nothing does."""
    last: int | None = None
    """Slot that runs what comes after the last item; None when nothing does."""
    main: int | None = None
    """Slot whose items come first in the chain among equally good assignments."""
    distances: tuple[tuple[float, ...], ...] | None = None
    """Seconds of a transfer from slot to slot; None: all are alike, and their number counts."""

    def __post_init__(self) -> None:
        ensure(all(slot.budget_bytes > 0 for slot in self.slots), "a card without budget")
        ensure(all(load >= 0 for load in self.loads_bytes), "a negative load")
        num_active = len(self.activations_bytes)
        ensure(num_active in (0, len(self.loads_bytes)), "activations of other items")

    @cached_property
    def active(self) -> tuple[int, ...]:
        """What every item needs while it runs.  # [items]"""
        return self.activations_bytes or (0,) * len(self.loads_bytes)


Assignment = tuple[int, ...]
"""Slot of every item."""


def slot_loads(problem: Problem, assignment: Sequence[int]) -> list[int]:
    """Bytes on every slot, base included."""
    loads = [slot.base_bytes for slot in problem.slots]
    for load, slot in zip(problem.loads_bytes, assignment, strict=True):
        loads[slot] += load
    return loads


def slot_rooms(problem: Problem, assignment: Sequence[int]) -> list[int]:
    """Budget of every slot less the activations of what needs most there."""
    active = [slot.active_bytes for slot in problem.slots]
    for needed, slot in zip(problem.active, assignment, strict=True):
        active[slot] = max(active[slot], needed)
    return [slot.budget_bytes - most for slot, most in zip(problem.slots, active, strict=True)]


def share_to_hold(load_bytes: int, room_bytes: int) -> Fraction:
    """Load over room.

    Where no room is left that is no number: then it is one that is above 1, and larger the more is
    missing, so that what overflows least is still the best.  Nothing in no room is no overflow.
    """
    if room_bytes > 0:
        return Fraction(load_bytes, room_bytes)
    if load_bytes == room_bytes == 0:
        return Fraction(0)
    return Fraction(load_bytes - room_bytes + 2)


def most_held(share: Fraction, room_bytes: int) -> int:
    """The largest load with at most this share of the room; negative where there is none."""
    if room_bytes > 0:
        return share.numerator * room_bytes // share.denominator
    held = share.numerator // share.denominator + room_bytes - 2
    return max(held, 0) if room_bytes == 0 else held


def share_of(problem: Problem, assignment: Sequence[int]) -> Fraction:
    """Largest share over all slots, exactly."""
    loads, rooms = slot_loads(problem, assignment), slot_rooms(problem, assignment)
    return max(map(share_to_hold, loads, rooms))


def num_transfers(problem: Problem, assignment: Sequence[int]) -> int:
    """Changes of slot along the items and at the two ends of the chain."""
    walk = [*assignment]
    if problem.first is not None:
        walk.insert(0, problem.first)
    if problem.last is not None:
        walk.append(problem.last)
    return sum(a != b for a, b in itertools.pairwise(walk))


def transfer_cost(problem: Problem, assignment: Sequence[int]) -> float:
    """Seconds of all transfers, or their number where all are alike."""
    if problem.distances is None:
        return num_transfers(problem, assignment)
    walk = [slot for slot in (problem.first, *assignment, problem.last) if slot is not None]
    # [fsum] so that the same links in another order take the same time, to the last bit.
    return math.fsum(problem.distances[a][b] for a, b in itertools.pairwise(walk))


def is_contiguous(assignment: Sequence[int]) -> bool:
    """Whether the items of every slot follow one another."""
    num_changes = sum(a != b for a, b in itertools.pairwise(assignment))
    return not assignment or num_changes == len(set(assignment)) - 1


def respects_pins(problem: Problem, assignment: Sequence[int]) -> bool:
    """Whether every pinned item is on its slot."""
    return all(assignment[item] == slot for item, slot in problem.pinned.items())
