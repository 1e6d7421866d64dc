"""Which runs of items a slot holds, when it also keeps room for the activations of one of them.

Items differ in what they need while they run, and a slot keeps room for the most that any of its
items needs.  Few different needs occur: they are the *levels*.  A run whose most needing item is of
some level fits a slot when it is no heavier than that level's room, so that the longest run from a
position is the longest over the levels: each ends where its room is full, or before the first item
that needs more.  A run that fits still fits without its first or last item, on which the chain
solver rests.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import accumulate

import numpy as np

from devplan.planning.problem import Problem, Slot, most_held, share_to_hold


class Runs:
    """The items of a problem, ready to be cut into runs."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.num_items = len(problem.loads_bytes)
        self.sums = [0, *accumulate(problem.loads_bytes)]
        self.prefix = np.array(self.sums, dtype=np.int64)  # [items + 1]
        self.levels = sorted(set(problem.active)) or [0]
        rank = {needed: level for level, needed in enumerate(self.levels)}
        self._level_of = np.array([rank[needed] for needed in problem.active], dtype=np.int64)
        self._beyond = [_next_where(self._level_of > level) for level in range(len(self.levels))]

    def rooms(self, slots: Iterable[int], share: Fraction) -> list[int]:
        """For every level, what each of these slots takes besides its base.  # [levels]

        No more than all items together: a card without room to speak of asks for shares at which
        another one could hold more bytes than int64 counts.
        """
        cards = [self.problem.slots[slot] for slot in slots]
        rooms = (
            min(most_held(share, _room(card, level)) - card.base_bytes for card in cards)
            for level in self.levels
        )
        return [min(room, self.sums[-1]) for room in rooms]

    def ends(self, slots: Iterable[int], share: Fraction) -> np.ndarray:
        """Where the longest run from each position ends that all of these slots hold.

        # [items + 1]
        """
        found = np.arange(self.num_items + 1)
        for room, beyond in zip(self.rooms(slots, share), self._beyond, strict=True):
            full = np.searchsorted(self.prefix, self.prefix + room, side="right") - 1
            np.maximum(found, np.minimum(full, beyond), out=found)
        return found

    def starts(self, slot: int, share: Fraction) -> np.ndarray:
        """Where the longest run to each position begins that the slot holds.  # [items + 1]"""
        ends = self.ends([slot], share)
        # The first position from which a run gets as far: ends never fall.
        return np.searchsorted(ends, np.arange(self.num_items + 1), side="left")

    def shares_to_hold(
        self, slots: Iterable[int], starts: np.ndarray, ends: np.ndarray
    ) -> Iterable[Fraction]:
        """The shares at which all of these slots hold the lightest of the runs of each level."""
        cards = [self.problem.slots[slot] for slot in slots]
        loads = self.prefix[ends] - self.prefix[starts]
        levels = self._most_needing(starts, ends)
        for level in np.unique(levels):
            load = int(loads[levels == level].min())
            needed = self.levels[level]
            yield max(share_to_hold(load + c.base_bytes, _room(c, needed)) for c in cards)

    def fitting(self, slot: int, share: Fraction) -> np.ndarray:
        """Whether the slot holds the items from one position to another.

        # [items + 1, items + 1]
        """
        ends = self.ends([slot], share)
        positions = np.arange(self.num_items + 1)
        return (positions[None, :] > positions[:, None]) & (positions[None, :] <= ends[:, None])

    def _most_needing(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Highest level in each run; runs are not empty.  # [runs]"""
        padded = np.append(self._level_of, 0)
        return np.maximum.reduceat(padded, np.stack([starts, ends], axis=1).ravel())[::2]


def _room(slot: Slot, needed: int) -> int:
    return slot.budget_bytes - max(slot.active_bytes, needed)


def _next_where(wanted: np.ndarray) -> np.ndarray:
    """The first item from each position on for which it is true, or the end.  # [items + 1]"""
    num = len(wanted)
    found = np.append(np.where(wanted, np.arange(num), num), num)
    return np.minimum.accumulate(found[::-1])[::-1]
