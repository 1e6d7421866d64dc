"""Changes a loaded model, reversibly: where its embeddings deliver, how often tensors are copied.

* The **embedding patch** (`patching`) delivers the output of an embedding on the device of its
  token ids, for maps that place the embedding away from the code that calls it.
* The **transfer cache** (`caching`) copies a tensor to a GPU once per forward, where accelerate's
  hooks copy it again for every layer.

Both are hooks of PyTorch or accelerate.  They change no class, no weight and no name in the state
dict, and leave nothing behind when they are removed.

Modules are imported on first use: a cache needs no virtual run.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
