"""The commands as functions: suggest, compare, diff, fit, describe and the module graph.

* `suggest` plans, runs the plan virtually, takes what was found as constraints and plans again
  (`refinement`) until a plan runs clean or none is left (`fallbacks`).
* `compare` evaluates devplan's map beside those of the planners that are installed anyway; `diff`
  evaluates two maps and says where they differ.
* `fit` tries a model in several precisions on several machines.
* `module_graph` follows the tensors that pass between the blocks of a split model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
