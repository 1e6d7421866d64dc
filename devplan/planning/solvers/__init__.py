"""Solvers: one a file, pure, problem in and assignment out.

To add one: write ``solve(problem) -> Assignment | None`` in a file of its own, whose docstring
says what is exact and what is not, and name it in `SOLVERS`; the properties in
``tests/planning/test_solvers.py`` then run on it.
"""

from collections.abc import Callable, Mapping

from devplan.planning.problem import Assignment, Problem
from devplan.planning.solvers import chain, exhaustive, packing, sequential

SOLVERS: Mapping[str, Callable[[Problem], Assignment | None]] = {
    "chain": chain.solve,
    "packing": packing.solve,
    "sequential": sequential.solve,
    "exhaustive": exhaustive.solve,
}
"""Name -> solver that makes the largest share small."""
