"""Virtual execution: a model's own code, at full size, on GPUs that are not there.

**Integers are concrete, floats are abstract.**  A float tensor is a plain meta tensor: shape and
dtype, no data.  An integer or boolean tensor, or a float tensor that was made from such alone, is
a real CPU tensor: code that looks at values (masks, token ids, grids, routing) simply runs.  Both
carry a label, the virtual device on which they live.

A run (`run.Run`) is one call of a model that lies on its devices; observers are told what happens.
Two modes do the work, one above the other:

* `function_mode.Answers` (a ``TorchFunctionMode``) is what the model's Python code talks to:
  ``.device``, ``.to``, ``torch.arange(..., device=...)`` answer with labels, not real devices.
* `dispatch_mode.Execution` (a ``TorchDispatchMode``) sees every aten op: it decides whether the
  op is computed for real or only in shape, labels the results and notes the block that made them.

Where an integer would have to come out of abstract floats (``argmax``, ``topk``, comparisons), a
plausible value is made up, and the place is recorded (`Execution.made_up`).

Limits: an op with neither a CPU nor a meta implementation stops the
run with torch's own error.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
