"""Local moves: an assignment is changed item by item until no slot is above a share.

What is made smaller is what the slots hold beyond the share, all of it together: an item moves to
another slot; or, where no such move helps, an item moves and one there makes way to its slot or to
a third.  The best such change is made, until nothing overflows or none helps: a local optimum,
which proves nothing.  Items of a slot that need the same are one choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from devplan.planning.problem import Assignment, Problem, most_held, share_of, slot_loads

MAX_ROUNDS = 40
"""Changes that are made at most; models seen so far need fewer than ten."""

Move = tuple[int, int]
"""(item, slot it goes to)."""


def improve(problem: Problem, assignment: Assignment, share: Fraction) -> Assignment:
    """The assignment after all changes that make the overflow at a share smaller."""
    state = _Loads(problem, assignment, share)
    for _ in range(MAX_ROUNDS):
        if not state.overflow or not state.change():
            break
    return tuple(state.slots)


class _Loads:
    def __init__(self, problem: Problem, assignment: Assignment, share: Fraction) -> None:
        self.problem, self.share = problem, share
        self.slots = list(assignment)
        self.held = slot_loads(problem, assignment)
        self.needs = [Counter([slot.active_bytes]) for slot in problem.slots]
        """Activations of what runs on each slot."""
        for needed, slot in zip(problem.active, assignment, strict=True):
            self.needs[slot][needed] += 1
        self.over = [self._over(slot, (), ()) for slot in range(len(problem.slots))]

    @property
    def overflow(self) -> int:
        return sum(self.over)

    def change(self) -> bool:
        """Make the change that leaves the least overflow; whether there was one."""
        moves = self._best(self._moves()) or self._best(self._exchanges())
        for item, to in moves or ():
            self._move(item, to)
        self.over = [self._over(slot, (), ()) for slot in range(len(self.over))]
        return moves is not None

    def _best(self, changes: Iterator[tuple[Move, ...]]) -> tuple[Move, ...] | None:
        best, least = None, self.overflow
        for moves in changes:
            left = self._overflow_after(moves)
            if left < least:
                best, least = moves, left
        return best

    def _move(self, item: int, to: int) -> None:
        load, needed = self.problem.loads_bytes[item], self.problem.active[item]
        source, self.slots[item] = self.slots[item], to
        self.held[source] -= load
        self.held[to] += load
        self.needs[source][needed] -= 1
        self.needs[to][needed] += 1

    def _moves(self) -> Iterator[tuple[Move, ...]]:
        """One item off a slot that holds too much."""
        for source, over in enumerate(self.over):
            for item in self._kinds_on(source) if over else ():
                for target in range(len(self.over)):
                    if target != source:
                        yield ((item, target),)

    def _exchanges(self) -> Iterator[tuple[Move, ...]]:
        """The same with an item there that makes way."""
        kinds = [self._kinds_on(slot) for slot in range(len(self.over))]
        for ((item, target),) in self._moves():
            for other in kinds[target]:
                for third in range(len(kinds)):
                    if third != target:
                        yield ((item, target), (other, third))

    def _kinds_on(self, slot: int) -> list[int]:
        """One free item of every kind that lies on a slot."""
        problem, found = self.problem, {}
        for item, at in enumerate(self.slots):
            if at == slot and item not in problem.pinned:
                found.setdefault((problem.loads_bytes[item], problem.active[item]), item)
        return list(found.values())

    def _overflow_after(self, moves: tuple[Move, ...]) -> int:
        touched = {slot for item, to in moves for slot in (self.slots[item], to)}
        left = self.overflow
        for slot in touched:
            gone = [item for item, _ in moves if self.slots[item] == slot]
            come = [item for item, to in moves if to == slot]
            left += self._over(slot, gone, come) - self.over[slot]
        return left

    def _over(self, slot: int, gone: Sequence[int], come: Sequence[int]) -> int:
        """Bytes beyond the share on a slot after some items left and others came."""
        loads, needs, card = self.problem.loads_bytes, self.problem.active, self.problem.slots[slot]
        held = self.held[slot] + sum(loads[i] for i in come) - sum(loads[i] for i in gone)
        left = Counter(needs[item] for item in gone)
        staying = (needed for needed, num in self.needs[slot].items() if num > left[needed])
        active = max(0, *staying, *(needs[item] for item in come))
        return max(held - most_held(self.share, card.budget_bytes - active), 0)


# ---------------------------------------------------------------------------------------- transfers
#
# A packing fixes how many items of each class every slot takes; which ones is free.  `deal_out`
# walks along the chain and stays on a slot as long as that slot has items of the class at hand
# left.  `exchange` then moves an item to a neighbour's slot, or swaps two items, where that saves a
# transfer and leaves the largest share no larger.  It ends in a local optimum.


MAX_PASSES = 20
"""Each pass saves at least one transfer; models seen so far need one or two."""


def deal_out(
    problem: Problem, kinds: Mapping[int, int], filled: Sequence[Sequence[int]]
) -> Assignment:
    """Items for slots that take ``filled[slot][class]`` of each class, in long runs.

    `kinds` holds the class of every item that is not pinned.
    """
    left = [list(pattern) for pattern in filled]
    walk = [kinds.get(item) for item in range(len(problem.loads_bytes))]
    assignment: list[int] = []
    current = problem.main if problem.main is not None else 0
    for item, kind in enumerate(walk):
        if kind is None:
            assignment.append(problem.pinned[item])
            continue
        if not left[current][kind]:
            current = max(range(len(left)), key=lambda slot: _run(left[slot], walk[item:]))
        left[current][kind] -= 1
        assignment.append(current)
    return tuple(assignment)


def _run(left: Sequence[int], kinds: Sequence[int | None]) -> int:
    """How many of the next items the slot could take one after another."""
    left, length = list(left), 0
    for kind in kinds:
        if kind is None or not left[kind]:
            break
        left[kind] -= 1
        length += 1
    return length


def exchange(problem: Problem, assignment: Assignment) -> Assignment:
    """The assignment after all moves and swaps that save a transfer."""
    state = _State(problem, assignment)
    for _ in range(MAX_PASSES):
        if not state.improve_once():
            break
    return tuple(state.slots)


class _State:
    def __init__(self, problem: Problem, assignment: Assignment) -> None:
        self.problem = problem
        self.share = share_of(problem, assignment)
        self.slots = list(assignment)
        self.loads = slot_loads(problem, assignment)

    def improve_once(self) -> bool:
        """One pass over the items whose neighbour is elsewhere; whether a transfer was saved."""
        improved = False
        for item, slot in enumerate(self.slots):
            for target in sorted({self._at(item - 1), self._at(item + 1)} - {slot, None}):
                if item not in self.problem.pinned and self._bring(item, target):
                    improved = True
                    break
        return improved

    def _bring(self, item: int, target: int) -> bool:
        """Move the item to the slot, or swap it with an item there, if that saves a transfer."""
        if self._move_if_better(((item, target),)):
            return True
        others = (i for i, slot in enumerate(self.slots) if slot == target)
        return any(
            self._move_if_better(((item, target), (other, self.slots[item])))
            for other in others
            if other not in self.problem.pinned
        )

    def _move_if_better(self, moves: tuple[tuple[int, int], ...]) -> bool:
        before = self._changes(moves)
        old = [(item, self.slots[item]) for item, _ in moves]
        self._apply(moves)
        touched = {slot for _, slot in (*moves, *old)}
        if self._changes(moves) < before and all(map(self._is_within, touched)):
            return True
        self._apply(old)
        return False

    def _is_within(self, slot: int) -> bool:
        card = self.problem.slots[slot]
        needed = (n for n, at in zip(self.problem.active, self.slots, strict=True) if at == slot)
        active = max(needed, default=0)
        room = card.budget_bytes - max(card.active_bytes, active)
        return self.loads[slot] <= most_held(self.share, room)

    def _apply(self, moves) -> None:
        for item, target in moves:
            self.loads[self.slots[item]] -= self.problem.loads_bytes[item]
            self.loads[target] += self.problem.loads_bytes[item]
            self.slots[item] = target

    def _changes(self, moves) -> int:
        """Transfers at the edges around the items that move, each edge once."""
        edges = {edge for item, _ in moves for edge in (item - 1, item)}
        ends = ((self._at(edge), self._at(edge + 1)) for edge in edges)
        return sum(a != b for a, b in ends if a is not None and b is not None)

    def _at(self, item: int) -> int | None:
        if item < 0:
            return self.problem.first
        return self.problem.last if item >= len(self.slots) else self.slots[item]
