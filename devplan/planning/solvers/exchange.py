"""Fewer transfers for a packing: deal the items out in runs, then exchange neighbours.

A packing says how many items of each class every slot takes; which ones is free.  `deal_out` walks
along the chain and stays on a slot as long as that slot has items of the class at hand left.
`exchange` then moves an item to a neighbour's slot, or swaps two items, where that saves a
transfer and leaves the largest share no larger.  It ends in a local optimum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from devplan.planning.problem import Assignment, Problem, most_held, share_of, slot_loads

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
