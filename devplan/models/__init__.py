"""What MODEL on the command line means, and the skeleton that is built from it.

MODEL is read in this order, and the first that applies wins:

1. **folder**: a folder that exists, or text that can only be a path (``./x``, ``/x``, ``~/x``);
2. **factory**: ``package.module:callable``, the user's own code;
3. **catalog**: a name of the built-in catalog, which works offline;
4. **hub**: ``org/name``, ``org/name@revision`` or ``org/name/subfolder``.

A revision always means the hub: the catalog has none.

The answer is a `ModelSource`: the configuration, the class that it names, and the dtype, shape and
bytes of every stored tensor where safetensors headers can be read.  Weight data is never read and
pickles (``.bin``, ``.pt``) are never opened.

The **skeleton** is the real class at full size on the meta device, without weights.  It is built
inside ``torch.device("meta")``, so that not a byte of weights is allocated
(``accelerate.init_empty_weights`` would first make each tensor on the CPU).  One builder a library,
one table.  `partition` divides it into **blocks**, the smallest parts that are placed whole.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
