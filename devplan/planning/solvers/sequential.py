"""The naive baseline: fill the cards one after another, in the order in which they were named.

What the last card cannot hold is put there all the same, so that the answer shows by how much it
overflows.  Pinned items go where they must and do not interrupt the filling.
"""

from __future__ import annotations

from devplan.planning.problem import Assignment, Problem


def solve(problem: Problem) -> Assignment:
    """Every slot is filled up to its budget before the next one is begun."""
    room = [slot.budget_bytes - slot.base_bytes for slot in problem.slots]
    for item, slot in problem.pinned.items():
        room[slot] -= problem.loads_bytes[item]
    current, assignment = 0, []
    for item, load in enumerate(problem.loads_bytes):
        if item in problem.pinned:
            assignment.append(problem.pinned[item])
            continue
        while load > room[current] and current < len(room) - 1:
            current += 1
        room[current] -= load
        assignment.append(current)
    return tuple(assignment)
