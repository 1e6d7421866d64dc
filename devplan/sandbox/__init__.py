"""What is changed in the whole process for a while: by one thread at a time, and undone.

A virtual run needs ``torch.cuda`` to speak of cards that are not there, modules that note what is
set on them, one thread of torch, silence.  Building a model sets transformers' and torch's own
switches.  All of this belongs to the process, not to a thread.

* `holding`: the one lock.  Whoever builds, runs or loads a model has it; others wait.
* `patches`: every name that is replaced, put back whatever happens; other threads of the process
  hear the original.
* `state`: switches of torch, logging and the libraries, put back after an interrupted run.
* `foreign`: whether a model's or a user's code is running now.  A run cannot be started from there.
* `limits`: a limit on time that a model's code cannot swallow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
