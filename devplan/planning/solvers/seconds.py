"""What an assignment takes in time: the terms that `fastest` adds up."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from devplan.planning.problem import Assignment, Problem


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
