"""The fastest contiguous stages, exactly, where items take different times on different cards.

One card works at a time, so that the time of an assignment is a sum: of every item on its slot,
and of every crossing from a slot to the next.  Fuller is not better here, unlike in `chain`: a
slow card should get as little as the fast ones leave, perhaps nothing.  So a state holds the time
of the best way to it for every number of items placed:

    best(slots used, last slot, items placed)
        = min over the items p placed before, and the last slot before
          best(slots used without the last, ..., p) + crossing at p + items p ... on the last slot

Slots that cannot be told apart, by size, by speed and by their links to all others, are counted
instead of told apart (`alike`).  Where there are still more than `MAX_STEPS` ways to add a slot,
a few orders of the slots are tried and slots left out where that is faster; the answer is then no
longer proven, and `is_exact` says so.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from math import prod

import numpy as np

from devplan.core import ensure
from devplan.planning.problem import Assignment, Problem, share_to_hold
from devplan.planning.solvers.runs import Runs

WHOLE = Fraction(1)
"""The share of a full card."""

MAX_STEPS = 20_000
"""Limit of (state, next slot) pairs: ten different cards have 10,240, a second for 80 items."""

_TIE = 1e-9

State = tuple[int, ...]
"""Slots of every group that are used."""


def fastest(
    problem: Problem,
    costs: Costs,
    *,
    share: Fraction = WHOLE,
    max_new_slots: int | None = None,
) -> Assignment | None:
    """The contiguous assignment within the share that takes the least time; None: there is none."""
    slots = problem.slots
    if any(share_to_hold(s.base_bytes, s.budget_bytes - s.active_bytes) > share for s in slots):
        return None
    if not problem.loads_bytes:
        return ()
    stages = _stages(problem, costs, share)
    groups = alike(problem, costs)
    limit = len(slots) if max_new_slots is None else max_new_slots
    if _num_steps(groups) <= MAX_STEPS:
        return _Search(problem, costs, stages, groups, limit).run()
    tried = [along(problem, costs, stages, order, limit) for order in orders(problem, costs)]
    found = [assignment for assignment in tried if assignment is not None]
    return min(found, key=lambda each: seconds_of(problem, costs, each), default=None)


def nearest_stages(
    problem: Problem, share: Fraction, max_new_slots: int | None = None
) -> Assignment | None:
    """The contiguous assignment within the share whose transfers take the least time.

    Among equals, one that begins on the main slot.
    """
    ensure(problem.distances is not None, "all transfers are alike")
    num_items, num_slots = len(problem.loads_bytes), len(problem.slots)
    cross_s = np.broadcast_to(np.array(problem.distances), (num_items + 1, num_slots, num_slots))
    item_s = np.zeros((num_items, num_slots))
    if problem.main is not None:
        # [main first] a price too small to outweigh any difference of links.
        item_s[:1] = _TIE * max(map(max, problem.distances))
        item_s[:1, problem.main] = 0.0
    costs = Costs(item_s=item_s, cross_s=cross_s)
    return fastest(problem, costs, share=share, max_new_slots=max_new_slots)


def is_exact(problem: Problem, costs: Costs) -> bool:
    """Whether every order of the slots is looked at."""
    return _num_steps(alike(problem, costs)) <= MAX_STEPS


def _num_steps(groups: list[list[int]]) -> int:
    return prod(len(group) + 1 for group in groups) * len(groups)


def _stages(problem: Problem, costs: Costs, share: Fraction) -> list[np.ndarray]:
    """For every slot, time of the items from one position to another, infinite where it may not
    take them.

    # slots x [items + 1, items + 1]
    """
    runs, positions = Runs(problem), range(len(problem.loads_bytes))
    stages = []
    for slot in range(len(problem.slots)):
        times = np.concatenate([[0.0], np.cumsum(costs.item_s[:, slot])])
        foreign = [int(problem.pinned.get(i, slot) != slot) for i in positions]
        walls = np.concatenate([[0], np.cumsum(foreign)])
        # [Constraint] A slot never takes an item that is pinned to another one.
        allowed = runs.fitting(slot, share) & (walls[None, :] == walls[:, None])
        stages.append(np.where(allowed, times[None, :] - times[:, None], np.inf))
    return stages


# ------------------------------------------------------------------------------- alike slots


def alike(problem: Problem, costs: Costs) -> list[list[int]]:
    """Slots in groups: any two of a group may change places and nothing else changes."""
    groups: list[list[int]] = []
    for slot in range(len(problem.slots)):
        home = next((g for g in groups if _may_swap(problem, costs, g[0], slot)), None)
        if home is None:
            groups.append([slot])
        else:
            home.append(slot)
    return groups


def _may_swap(problem: Problem, costs: Costs, a: int, b: int) -> bool:
    ends = (problem.first, problem.last, *problem.pinned.values())
    if a in ends or b in ends:
        return False
    one, other = problem.slots[a], problem.slots[b]
    sizes = [(s.budget_bytes, s.base_bytes, s.active_bytes, s.in_use) for s in (one, other)]
    if sizes[0] != sizes[1] or (costs.item_s[:, a] != costs.item_s[:, b]).any():
        return False
    swapped = np.arange(len(problem.slots))
    swapped[[a, b]] = b, a
    return bool((costs.cross_s == costs.cross_s[:, swapped][:, :, swapped]).all())


# -------------------------------------------------------------------------------- the search


class _Search:
    """The programme over all sets of slots."""

    def __init__(
        self,
        problem: Problem,
        costs: Costs,
        stages: list[np.ndarray],
        groups: list[list[int]],
        max_new_slots: int,
    ) -> None:
        self.problem, self.costs, self.groups = problem, costs, groups
        self.stages = [stages[group[0]] for group in groups]
        self.num_items = len(problem.loads_bytes)
        self.new = [not problem.slots[group[0]].in_use for group in groups]
        self.max_new_slots = max_new_slots
        self.best: dict[tuple[State, int], np.ndarray] = {}
        """State and last group -> least seconds by items placed.  # [items + 1]"""
        self.came: dict[tuple[State, int], tuple[np.ndarray, np.ndarray]] = {}
        """The same -> items placed before, and last group before (-1: none)."""

    def run(self) -> Assignment | None:
        sizes = [range(len(group) + 1) for group in self.groups]
        for state in sorted(itertools.product(*sizes), key=sum):
            for group, used in enumerate(state):
                if used < len(self.groups[group]) and self._num_new(state, group) <= (
                    self.max_new_slots
                ):
                    self._extend(state, group)
        ends = {
            key: float(seconds[-1]) + self._leaving(key[1]) for key, seconds in self.best.items()
        }
        end = min(ends, key=lambda key: ends[key], default=None)
        return None if end is None or np.isinf(ends[end]) else self._assignment(*end)

    def _num_new(self, state: State, group: int) -> int:
        counts = [used + (g == group) for g, used in enumerate(state)]
        return sum(count for count, new in zip(counts, self.new, strict=True) if new)

    def _extend(self, state: State, group: int) -> None:
        """Give a slot of the group the next stage."""
        entry, before = self._entries(state, group)
        if np.isinf(entry).all():
            return
        ways = entry[:, None] + self.stages[group]
        after = tuple(used + (g == group) for g, used in enumerate(state))
        starts = ways.argmin(axis=0)
        self.best[after, group] = ways[starts, np.arange(self.num_items + 1)]
        self.came[after, group] = (starts, before[starts])

    def _entries(self, state: State, group: int) -> tuple[np.ndarray, np.ndarray]:
        """Least seconds until the slot begins, by items placed, and the group that was last."""
        if not any(state):
            entry = np.full(self.num_items + 1, np.inf)
            first, slot = self.problem.first, self.groups[group][0]
            entry[0] = 0.0 if first is None else float(self.costs.cross_s[0, first, slot])
            return entry, np.full(self.num_items + 1, -1)
        lasts = [last for last in range(len(state)) if (state, last) in self.best]
        if not lasts:
            return np.full(self.num_items + 1, np.inf), np.full(self.num_items + 1, -1)
        ways = np.stack([self.best[state, last] + self._cross(last, group) for last in lasts])
        chosen = ways.argmin(axis=0)
        return ways.min(axis=0), np.array(lasts)[chosen]

    def _cross(self, last: int, group: int) -> np.ndarray:
        """From a slot of a group to one of another, or to another of the same.  # [items + 1]"""
        target = self.groups[group][1 if last == group else 0]
        return self.costs.cross_s[:, self.groups[last][0], target]

    def _leaving(self, group: int) -> float:
        last = self.problem.last
        return 0.0 if last is None else float(self.costs.cross_s[-1, self.groups[group][0], last])

    def _assignment(self, state: State, group: int) -> Assignment:
        """Walk back; slots of a group are taken from its end, so that they come in their order."""
        assignment: list[int] = []
        items = self.num_items
        while group >= 0:
            starts, before = self.came[state, group]
            start = int(starts[items])
            slot = self.groups[group][state[group] - 1]
            assignment[:0] = [slot] * (items - start)
            state = tuple(used - (g == group) for g, used in enumerate(state))
            group, items = int(before[items]), start
        return tuple(assignment)


# ------------------------------------------------------------------------------------------ seconds


@dataclass(frozen=True, eq=False, kw_only=True)
class Costs:
    """What an assignment costs beside its shares, in seconds."""

    item_s: np.ndarray
    """Of every item on every slot.  # [items, slots]"""
    cross_s: np.ndarray
    """Of what enters an item (or leaves the last one) crossing from a slot to another; zero on
    the diagonal.  # [items + 1, slots, slots]"""


def seconds_of(problem: Problem, costs: Costs, assignment: Assignment) -> float:
    """What an assignment takes, the two ends of the chain included."""
    walk = [problem.first, *assignment, problem.last]
    crossings = sum(
        float(costs.cross_s[position, a, b])
        for position, (a, b) in enumerate(itertools.pairwise(walk))
        if a is not None and b is not None
    )
    return crossings + sum(float(costs.item_s[i, slot]) for i, slot in enumerate(assignment))


# ------------------------------------------------------------------------------------ a given order
#
# The fallback for very many slots: stages whose slots come in a given order.


def orders(problem: Problem, costs: Costs) -> list[list[int]]:
    """As the machine has them, the fastest first, and the largest first; the first end leads."""
    slots = range(len(problem.slots))
    speed = costs.item_s.sum(axis=0)
    size = [s.budget_bytes - s.base_bytes - s.active_bytes for s in problem.slots]
    orders = [
        list(slots),
        sorted(slots, key=lambda slot: speed[slot]),
        sorted(slots, key=lambda slot: -size[slot]),
    ]
    return [sorted(order, key=lambda slot: slot != problem.first) for order in orders]


def along(
    problem: Problem, costs: Costs, stages: list[np.ndarray], order: list[int], max_new: int
) -> Assignment | None:
    """The fastest assignment whose slots come in this order, some left out."""
    best: list[np.ndarray] = []
    came: list[tuple[np.ndarray, np.ndarray]] = []
    num_items = len(problem.loads_bytes)
    for index, slot in enumerate(order):
        entry = np.full(num_items + 1, np.inf)
        entry[0] = 0.0 if problem.first is None else float(costs.cross_s[0, problem.first, slot])
        ways = [entry] + [best[i] + costs.cross_s[:, order[i], slot] for i in range(index)]
        stacked = np.stack(ways)
        chosen = stacked.argmin(axis=0)
        full = stacked.min(axis=0)[:, None] + stages[slot]
        starts = full.argmin(axis=0)
        best.append(full[starts, np.arange(num_items + 1)])
        came.append((starts, chosen[starts] - 1))
    ends = [
        float(best[i][-1])
        + (0.0 if problem.last is None else float(costs.cross_s[-1, order[i], problem.last]))
        for i in range(len(order))
    ]
    index, items, assignment = int(np.argmin(ends)), num_items, []
    if np.isinf(ends[index]):
        return None
    while index >= 0:
        starts, before = came[index]
        assignment[:0] = [order[index]] * (items - int(starts[items]))
        index, items = int(before[items]), int(starts[items])
    used = {slot for slot in assignment if not problem.slots[slot].in_use}
    return tuple(assignment) if len(used) <= max_new else None
