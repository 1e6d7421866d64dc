"""Which cards the chain solver cannot tell apart.

Cards with the same budget, base load and activations, and without a role of their own (main slot,
ends of the chain, owner of a pinned item), are interchangeable.  Where there are too many kinds for
exact states, the most alike are pooled; a pool counts as its smallest card at every position.
"""

from __future__ import annotations

import itertools
from collections import defaultdict

from devplan.core import ensure
from devplan.planning.problem import Problem
from devplan.planning.solvers.card_states import MAX_STEPS, num_steps

Group = tuple[int, ...]


def groups_of(problem: Problem) -> list[Group]:
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
