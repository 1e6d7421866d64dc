"""How far the items get for every set of cards: the programme under the chain solver.

`Reach` holds a problem's runs, groups and states, and is asked about many shares.  A
*trial* is the answer for one share: ``next_c(p)`` for every group and position, and the item that
every state reaches.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import prod

import numpy as np

from devplan.core import ensure
from devplan.planning.problem import Assignment, Problem, Slot, share_to_hold
from devplan.planning.solvers.runs import Runs


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is reached when no slot may hold more than a share."""

    share: Fraction
    steps: np.ndarray
    """Where a stage ends that starts at a position.  # [groups, items + 1]"""
    reached: np.ndarray
    """Items placed by every state.  # [states]"""


class Reach:
    """A chain problem, ready to be tried at many shares."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.num_items = len(problem.loads_bytes)
        self.runs = Runs(problem)
        self.sums = self.runs.sums
        self.groups = card_groups(problem)
        self.states = card_states(tuple(map(len, self.groups)))
        new = [not problem.slots[group[0]].in_use for group in self.groups]
        self.num_new = self.states.digits @ np.array(new, dtype=np.int64)  # [states]
        self._walls = np.stack([self._wall(group[0]) for group in self.groups])

    def _wall(self, slot: int) -> np.ndarray:
        """First item from each position on that is pinned to another slot.  # [items + 1]"""
        # [Constraint] A slot never takes an item that is pinned to another one.
        wall = np.full(self.num_items + 1, self.num_items)
        for item, owner in sorted(self.problem.pinned.items(), reverse=True):
            if owner != slot:
                wall[: item + 1] = item
        return wall

    def floor(self) -> Fraction:
        """A share that no assignment goes below: base loads, volume, the largest item."""
        slots = self.problem.slots
        rooms = [slot.budget_bytes - slot.active_bytes for slot in slots]
        total = self.sums[-1] + sum(slot.base_bytes for slot in slots)
        largest = max(self.problem.loads_bytes, default=0)
        return max(
            *(share_to_hold(s.base_bytes, room) for s, room in zip(slots, rooms, strict=True)),
            Fraction(total, sum(max(room, 1) for room in rooms)),
            min(
                share_to_hold(s.base_bytes + largest, room)
                for s, room in zip(slots, rooms, strict=True)
            ),
        )

    # --------------------------------------------------------------------------------- trials

    def trial(self, share: Fraction) -> Trial:
        """How far every state gets from the first item on."""
        return self._trial(share, self._steps(share), start=0)

    def trial_between(self, share: Fraction, start: int, without: set[int]) -> Trial:
        """How far every state gets from item `start` on; the slots in `without` take nothing."""
        steps = self._steps(share)
        for index, group in enumerate(self.groups):
            if group[0] in without:
                steps[index] = np.arange(self.num_items + 1)
        return self._trial(share, steps, start)

    def _steps(self, share: Fraction) -> np.ndarray:
        rows = zip(self.groups, self._walls, strict=True)
        return np.stack([np.minimum(self.runs.ends(group, share), wall) for group, wall in rows])

    def _trial(self, share: Fraction, steps: np.ndarray, start: int) -> Trial:
        # Positions are kept times the number of groups: a step is then looked up by one addition.
        num_groups = len(self.groups)
        scaled = np.empty(len(self.states.digits), dtype=np.int64)
        scaled[0] = start * num_groups
        table = steps.T.ravel() * num_groups
        for layer in self.states.layers:
            ends = table.take(scaled.take(layer.before) + layer.group)
            scaled[layer.start : layer.stop] = np.maximum.reduceat(ends, layer.offsets)
        reached = scaled // num_groups
        return Trial(share=share, steps=steps, reached=reached)

    def next_share(self, trial: Trial) -> Fraction | None:
        """The smallest share at which a step from a position reached would get further.

        The trial must have failed.  Up to the answer every state reaches what it reaches now, so
        every smaller share fails too.  None when no step ever gets further.
        """
        positions = np.unique(trial.reached)
        candidates: list[Fraction] = []
        for group, wall, steps in zip(self.groups, self._walls, trial.steps, strict=True):
            ends = steps[positions]
            movable = ends < wall[positions]
            if movable.any():
                starts = positions[movable]
                candidates += self.runs.shares_to_hold(group, starts, ends[movable] + 1)
        return min(candidates, default=None)

    # --------------------------------------------------------------------- from states to items

    def order(self, trial: Trial, state: int, goal: int) -> list[int]:
        """The slots of a state, first stage first, in an order that reaches the goal.

        The last slot named goes last where there is a choice, which keeps the machine's order.
        """
        order = []
        while self.states.digits[state].any():
            ways = [
                (self.groups[group][self.states.digits[state][group] - 1], before)
                for before, group in self.states.before(state)
                if trial.steps[group][trial.reached[before]] >= goal
            ]
            slot, state = max(ways)
            order.append(slot)
            goal = int(trial.reached[state])
        return order[::-1]

    def spread(self, order: list[int], share: Fraction) -> Assignment:
        """The items over these slots in this order, within the share and as evenly as that allows.

        Every stage ends as near as it may to where the rest of the slots would have equal shares.
        """
        latest_starts = self._latest_starts(order, share)
        slots = [self.problem.slots[slot] for slot in order]
        assignment: list[int] = []
        for index, slot in enumerate(order):
            start, rest = len(assignment), slots[index:]
            load = self.sums[-1] - self.sums[start] + sum(card.base_bytes for card in rest)
            rooms = [self._least_room(card, start) for card in rest]
            even = load * rooms[0] // sum(rooms)
            stop = self.stage_end(slot, start, share)
            least = max(latest_starts[index + 1], min(start + 1, stop))
            wished = self._nearest(self.sums[start] + even - rest[0].base_bytes)
            end = min(max(wished, least), stop)
            assignment += [slot] * (end - start)
        ensure(len(assignment) == self.num_items, "the order does not hold the items")
        return tuple(assignment)

    def _latest_starts(self, order: list[int], share: Fraction) -> list[int]:
        """First item from which on the slots from each one on hold everything."""
        starts = [self.num_items]
        for slot in reversed(order):
            starts.append(self.stage_start(slot, starts[-1], share))
        return starts[::-1]

    def _nearest(self, sum_bytes: int) -> int:
        after = min(bisect_left(self.sums, sum_bytes), self.num_items)
        before = max(after - 1, 0)
        return min((after, before), key=lambda end: abs(self.sums[end] - sum_bytes))

    def _least_room(self, slot: Slot, start: int) -> int:
        """Of a slot that holds whichever of the items from a position on needs most."""
        most = max(self.problem.active[start:], default=0)
        return max(slot.budget_bytes - max(slot.active_bytes, most), 1)

    def stage_end(self, slot: int, start: int, share: Fraction) -> int:
        """First item that the slot no longer takes when its stage starts at `start`."""
        end = int(self.runs.ends([slot], share)[start])
        foreign = (i for i, s in self.problem.pinned.items() if s != slot and i >= start)
        return min(end, min(foreign, default=self.num_items))

    def stage_start(self, slot: int, end: int, share: Fraction) -> int:
        """First item that the slot takes when its stage must end at `end`."""
        start = int(self.runs.starts(slot, share)[end])
        foreign = (i + 1 for i, s in self.problem.pinned.items() if s != slot and i < end)
        return max(start, max(foreign, default=0))


# ------------------------------------------------------------------------------------------- groups
#
# Cards with equal budget, base load and activations, and without a role of their own (main slot,
# ends of the chain, owner of a pinned item), are interchangeable.  Where there are too many kinds
# for exact states, the most alike are pooled; a pool counts as its smallest card at every position.


Group = tuple[int, ...]


def card_groups(problem: Problem) -> list[Group]:
    """Slots in groups of interchangeable ones, pooled where there are too many states."""
    kinds = defaultdict(list)
    for slot in range(len(problem.slots)):
        kinds[_kind(problem, slot)].append(slot)
    groups = [tuple(group) for group in kinds.values()]
    while num_steps(tuple(map(len, groups))) > MAX_STEPS:
        groups = _pool_most_alike(problem, groups)
    return groups


def are_exact(problem: Problem, groups: list[Group]) -> bool:
    """Whether every group holds interchangeable slots only."""
    return all(len({_kind(problem, slot) for slot in group}) == 1 for group in groups)


def _kind(problem: Problem, slot: int) -> tuple:
    card = problem.slots[slot]
    roles = (problem.first, problem.last, problem.main, *problem.pinned.values())
    size = (card.budget_bytes, card.base_bytes, card.active_bytes)
    return (size, card.in_use, slot if slot in roles else None)


def _pool_most_alike(problem: Problem, groups: list[Group]) -> list[Group]:
    def room_bytes(group: Group) -> int:
        slots = (problem.slots[slot] for slot in group)
        return min(slot.budget_bytes - slot.base_bytes - slot.active_bytes for slot in slots)

    def may_pool(a: Group, b: Group) -> bool:
        """Cards with a role stay alone; a used card must not hide behind an unused one."""
        kinds = _kind(problem, a[0]), _kind(problem, b[0])
        return kinds[0][1:] == kinds[1][1:] == (kinds[0][1], None)

    ordered = sorted(groups, key=room_bytes)
    pairs = [(a, b) for a, b in itertools.pairwise(ordered) if may_pool(a, b)]
    ensure(pairs, "too many cards with a role of their own")
    a, b = min(pairs, key=lambda pair: room_bytes(pair[1]) - room_bytes(pair[0]))
    return [group for group in groups if group not in (a, b)] + [tuple(sorted(a + b))]


# ------------------------------------------------------------------------------------------- states
#
# A dynamic programme over the order of unequal cards needs to know which cards are taken, not in
# which order.  Interchangeable cards need only be counted: eight equal cards are 9 states instead
# of 256, sixteen different cards are 2**16.
#
# States are numbered by the number of cards in them (their *layer*), so that one pass over the
# layers visits every state after all of its predecessors, and each layer is one numpy operation.
# The tables depend on the sizes of the groups alone and are kept for the next call.


MAX_STEPS = 2_500_000
"""Limit of (state, next card) pairs: 18 different cards have 2.36 million, which take about
0.1 s a pass and 60 MB; 19 would double both."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The states with the same number of cards, and every way to reach each of them."""

    start: int
    stop: int
    before: np.ndarray
    """State before the last card was added; one entry a step.  # [steps]"""
    group: np.ndarray
    """Group of the card that was added.  # [steps]"""
    offsets: np.ndarray
    """Where the steps of each state begin.  # [stop - start]"""


@dataclass(frozen=True, kw_only=True)
class CardStates:
    """All multisets of cards of the given group sizes."""

    digits: np.ndarray
    """Cards of every group in every state.  # [states, groups]"""
    layers: tuple[Layer, ...]

    def before(self, state: int) -> list[tuple[int, int]]:
        """(state before, group of the card added) for every way to reach the state."""
        layer = self.layers[int(self.digits[state].sum()) - 1]
        begin = int(layer.offsets[state - layer.start])
        end = begin + int(np.count_nonzero(self.digits[state]))
        pairs = zip(layer.before[begin:end], layer.group[begin:end], strict=True)
        return [(int(before), int(group)) for before, group in pairs]


def num_steps(sizes: tuple[int, ...]) -> int:
    """How many (state, next card) pairs groups of these sizes have, at most."""
    return prod(size + 1 for size in sizes) * len(sizes)


@lru_cache(maxsize=8)
def card_states(sizes: tuple[int, ...]) -> CardStates:
    """The states for groups of these sizes."""
    dims = tuple(size + 1 for size in sizes)
    codes = np.arange(prod(dims))
    digits = np.stack(np.unravel_index(codes, dims), axis=1)
    order = np.argsort(digits.sum(axis=1), kind="stable")
    rank = np.empty_like(order)
    rank[order] = codes
    strides = np.array([prod(dims[group + 1 :]) for group in range(len(dims))])
    digits = digits[order]
    bounds = np.searchsorted(digits.sum(axis=1), np.arange(1, sum(sizes) + 2))
    layers = tuple(
        _layer(int(start), int(stop), digits, order, rank, strides)
        for start, stop in itertools.pairwise(bounds)
    )
    return CardStates(digits=digits, layers=layers)


def _layer(start, stop, digits, order, rank, strides) -> Layer:
    row, group = np.nonzero(digits[start:stop])
    before = rank[order[start + row] - strides[group]]
    offsets = np.searchsorted(row, np.arange(stop - start))
    return Layer(start=start, stop=stop, before=before, group=group, offsets=offsets)
