"""What is changed in a loaded model and can be taken back: where its tensors are moved, how often.

* The **embedding patch** (`patching`) delivers what an embedding gives where its token ids lay:
  for maps that put it away from the code that calls it.
* The **transfer cache** (`caching`) moves a tensor once a card and forward, where accelerate's
  hooks move it again for every layer.

Both hang on the model as hooks of PyTorch's or accelerate's, change no class, no weight and no name
in the state dict, and leave nothing behind when they are removed.
"""

from devplan.live.advice import PatchAdvice, needed_patch
from devplan.live.caching import TransferCache, cache_transfers, transfer_cache_of
from devplan.live.counts import TransferCounts
from devplan.live.patching import (
    PatchedEmbedding,
    input_embedding_names,
    patch_embeddings,
    patched_embeddings,
    unpatch_embeddings,
)

__all__ = [
    "PatchAdvice",
    "PatchedEmbedding",
    "TransferCache",
    "TransferCounts",
    "cache_transfers",
    "input_embedding_names",
    "needed_patch",
    "patch_embeddings",
    "patched_embeddings",
    "transfer_cache_of",
    "unpatch_embeddings",
]
