"""The oracle of the tests: looks at every assignment.  For small problems only."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from devplan.core import ensure
from devplan.planning.problem import (
    Assignment,
    Problem,
    num_transfers,
    respects_pins,
    share_of,
)

MAX_ASSIGNMENTS = 1_000_000
"""About ten seconds."""


def solve(problem: Problem) -> Assignment | None:
    """The assignment of any kind with the smallest share and, among those, fewest transfers."""
    return min(assignments(problem), key=lambda a: cost(problem, a), default=None)


def assignments(problem: Problem) -> Iterator[Assignment]:
    """Every assignment that respects the pins."""
    num_slots, num_items = len(problem.slots), len(problem.loads_bytes)
    ensure(num_slots**num_items <= MAX_ASSIGNMENTS, "too large for the exhaustive solver")
    every = product(range(num_slots), repeat=num_items)
    return (assignment for assignment in every if respects_pins(problem, assignment))


def cost(problem: Problem, assignment: Assignment) -> tuple:
    """What `solve` minimizes: share, transfers, and whether it starts on another slot than main."""
    starts_elsewhere = assignment[:1] != (problem.main,)
    return share_of(problem, assignment), num_transfers(problem, assignment), starts_elsewhere
