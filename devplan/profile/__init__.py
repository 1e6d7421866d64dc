"""The profile of a model: exact bytes of every block, and what virtual runs of it showed.

Weights, KV cache, activations, temporaries and work of every block as functions of the workload;
`graph` makes the planner's block graph of it, `quantization` knows the sizes of quantized weights.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
