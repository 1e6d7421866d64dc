"""Example inputs: what a model's own code is given when it is run virtually.

From the processor in the model's folder where there is one, else from the signature of
``forward``, the configuration and the weights; a function of the user's is the way out.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
