"""Planning: blocks, cards and a workload in; a verified plan, or why there is none, out.

    plan = devplan.planning.plan(graph, machine, workload)

The way through: `units` merges tied blocks, `pins` says what belongs where, `pose` makes a solver's
problem of it, `search` tries poses in order with `objectives` and `solvers`, `assemble` makes the
plan, `verifier` counts everything again.  `docs/planning.md` states the model and what is proven.
"""

from devplan.planning.objectives import OBJECTIVES
from devplan.planning.planner import plan
from devplan.planning.verifier import verify

__all__ = ["OBJECTIVES", "plan", "verify"]
