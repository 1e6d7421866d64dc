"""The naive baseline: fill the cards one after another, in the order in which they were named.

What the last card cannot hold is put there all the same, so that the answer shows by how much it
overflows.  Pinned items go where they must and do not interrupt the filling.
"""

from __future__ import annotations

from devplan.planning.problem import Assignment, Problem


def solve(problem: Problem) -> Assignment:
    """Every slot is filled up to its budget before the next one is begun."""
    held = [slot.base_bytes for slot in problem.slots]
    active = [slot.active_bytes for slot in problem.slots]

    def take(item: int, slot: int) -> None:
        held[slot] += problem.loads_bytes[item]
        active[slot] = max(active[slot], problem.active[item])

    def takes(item: int, slot: int) -> bool:
        load = held[slot] + problem.loads_bytes[item]
        return load + max(active[slot], problem.active[item]) <= problem.slots[slot].budget_bytes

    for item, slot in problem.pinned.items():
        take(item, slot)
    current, assignment = 0, []
    for item in range(len(problem.loads_bytes)):
        if item in problem.pinned:
            assignment.append(problem.pinned[item])
            continue
        while not takes(item, current) and current < len(problem.slots) - 1:
            current += 1
        take(item, current)
        assignment.append(current)
    return tuple(assignment)
