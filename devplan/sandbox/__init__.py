"""Changes to the whole process that a run needs: made by one thread at a time, and undone.

A virtual run needs ``torch.cuda`` to report GPUs that do not exist, modules that record what is set
on them, a single torch thread, and silence.  Building a model sets switches of transformers and
torch.  All of this belongs to the process, not to a thread.

* `holding`: the one lock.  A thread that builds, runs or loads a model holds it; others wait.
  It also replaces names of other packages (`patched`) and puts them back whatever happens; other
  threads see the original.
* `state`: switches of torch, logging and the libraries, put back after an interrupted run.
* `foreign`: whether a model's or a user's code is running now, from which no run can be started.
* `limits`: a time limit that a model's code cannot swallow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
