"""Planning: blocks, cards and a workload in; a verified plan, or why there is none, out.

    plan = devplan.planning.plan(graph, machine, workload)

The way through: `pins` says which blocks belong where, `instance` merges tied blocks and makes a
solver's problem, `search` tries problems in order with `objectives` and `solvers`, `assemble` makes
the plan, and `verifier` counts everything again.  `docs/planning.md` states the model and the
proofs.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
