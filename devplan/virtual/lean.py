"""A process set for very many very small ops.

* One thread.  What is computed for real has 2**20 elements at most, and threads that wait for each
  other on a busy machine cost more than they save: DeepSeek-V3 with 2,048 tokens took 2.3 s with
  two threads on two busy cores, 1.1 s with one.  A model with real weights keeps its threads: they
  divide a sum differently, and its last bit would be another.
* Objects that exist already are not looked through for garbage again and again: a process with
  transformers holds a million, and a full collection takes 0.2 s.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def lean(model: nn.Module) -> Iterator[None]:
    """Set the process for a run of the model, and back afterwards."""
    num_threads, is_frozen = torch.get_num_threads(), gc.get_freeze_count() > 0
    first = next(model.parameters(), None)
    try:
        if first is None or first.is_meta:
            torch.set_num_threads(1)
        if not is_frozen:
            gc.freeze()
        yield
    finally:
        torch.set_num_threads(num_threads)
        if not is_frozen:
            gc.unfreeze()
