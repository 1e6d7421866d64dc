"""What is changed in a loaded model and can be taken back: where its tensors are moved, how often.

* The **embedding patch** (`patching`) delivers what an embedding gives where its token ids lay:
  for maps that put it away from the code that calls it.
* The **transfer cache** (`caching`) moves a tensor once a card and forward, where accelerate's
  hooks move it again for every layer.

Both hang on the model as hooks of PyTorch's or accelerate's, change no class, no weight and no name
in the state dict, and leave nothing behind when they are removed.

Nothing is imported before it is used: a cache needs no virtual run.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
