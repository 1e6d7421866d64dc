"""Planning: blocks, cards and a workload in; a verified plan, or why there is none, out.

    plan = devplan.planning.plan(graph, machine, workload)

The way through: `units` merges tied blocks, `pins` says what belongs where, `pose` makes a solver's
problem of it, `search` tries poses in order with `objectives` and `solvers`, `assemble` makes the
plan, `verifier` counts everything again.  `docs/planning.md` states the model and what is proven.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
