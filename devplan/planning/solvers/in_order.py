"""Stages whose slots come in a given order: what `fastest` falls back to with very many slots."""

from __future__ import annotations

import numpy as np

from devplan.planning.problem import Assignment, Problem
from devplan.planning.solvers.seconds import Costs


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
