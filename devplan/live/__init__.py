"""What is changed in a loaded model and can be taken back: where its tensors are moved, how often.

* The **embedding patch** (`patching`) delivers what an embedding gives where its token ids lay:
  for maps that put it away from the code that calls it.
* The **transfer cache** (`caching`) moves a tensor once a card and forward, where accelerate's
  hooks move it again for every layer.

Both hang on the model as hooks of PyTorch's or accelerate's, change no class, no weight and no name
in the state dict, and leave nothing behind when they are removed.

Nothing is imported before it is used: a cache needs no virtual run.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "PatchAdvice": "advice",
    "PatchedEmbedding": "patching",
    "TransferCache": "caching",
    "TransferCounts": "counts",
    "cache_transfers": "caching",
    "input_embedding_names": "patching",
    "needed_patch": "advice",
    "patch_embeddings": "patching",
    "patched_embeddings": "patching",
    "transfer_cache_of": "caching",
    "unpatch_embeddings": "patching",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
