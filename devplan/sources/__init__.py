"""What MODEL on the command line means, and what is known of it before anything is built.

MODEL is read in this order, and the first that applies wins:

1. **folder**: a folder that exists, or text that can only be a path (``./x``, ``/x``, ``~/x``);
2. **factory**: ``package.module:callable``, the user's own code;
3. **catalogue**: a name of the built-in catalogue, which works offline;
4. **hub**: ``org/name``, ``org/name@revision`` or ``org/name/subfolder``.

A revision always means the hub: the catalogue has none.

The answer is a `ModelSource`: the configuration, the class that it names, and the dtype, shape and
bytes of every stored tensor where safetensors headers can be read.  Weight data is never read and
pickles (``.bin``, ``.pt``) are never opened.  Nothing here imports torch or transformers, but a
user's factory and `devplan.sources.native`, which says whether the installed libraries have the
class.
"""

from __future__ import annotations

from devplan.sources.meaning import resolve
from devplan.sources.source import ModelSource, StoredTensor

__all__ = ["ModelSource", "StoredTensor", "resolve"]
