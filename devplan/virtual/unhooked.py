"""Maps for which ``from_pretrained`` puts no hooks.

Since 5.0 transformers calls accelerate's dispatch only where a map names more than one device, or
``disk`` (``modeling_utils.py``; 4.57 always called it).  On one device nothing asks whether the map
covers the model: a tensor that no entry names is loaded on the CPU (``expand_device_map``), one
that is tied to a tensor with an entry lies with that, and no hook moves any input.
``accelerate.dispatch_model`` itself refuses a map that leaves tensors out.
"""

from __future__ import annotations

import re
import sys

from torch import nn

_SINCE = 5
"""The first major release of transformers that does so."""


def loads_without_hooks(model: nn.Module) -> bool:
    """Whether the code that loads a model puts no hooks for a map of one device."""
    library = sys.modules.get("transformers")
    base = getattr(library, "PreTrainedModel", None)
    release = re.match(r"\d+", getattr(library, "__version__", ""))
    return base is not None and isinstance(model, base) and int(release[0]) >= _SINCE
