"""What a parameter takes on its device beside itself while it is loaded.

Weights are read one tensor at a time and need nothing more, with two exceptions, in which tensors
of the checkpoint stand on the device together with what is made of them:

* parameters that transformers makes of several stored tensors (experts that are stored one by one
  and run as one tensor): the stored ones are freed as the operations go, so at most a second copy
  is there.  ``transformers.core_model_loading``, ``MergeModulelist`` and ``Concatenate`` of 5.x;
* quantized weights that are unpacked: the packed form is there meanwhile.

Reading ahead (four threads in transformers 5) does not add to it: what was read early is the next
parameter, which would be there anyway by the end.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from typing import Any

from torch import nn

from devplan.profile.checkpoint_names import conversions


def loading_bytes(
    model: nn.Module,
    *,
    sizes: Mapping[str, int],
    packed: Mapping[str, int],
    stored: Container[str] = (),
) -> dict[str, int]:
    """Parameter -> bytes beside it while it is loaded, for those that need any.

    Parameters
    ----------
    model
        Skeleton on the meta device.
    sizes
        Parameter -> bytes in memory, for those that are not as the skeleton has them.
    packed
        Parameter -> bytes in the form that its quantization method stores.
    stored
        Names in the checkpoint, where they are known: what has its own name there is not made of
        others.
    """
    found: dict[str, int] = {}
    for name, num_bytes in packed.items():
        if sizes.get(name, num_bytes) > num_bytes:
            found[name] = num_bytes
    if targets := _targets(conversions(model)[1]):
        for name, parameter in model.named_parameters():
            if name not in stored and targets.search(name):
                own = sizes.get(name, parameter.numel() * parameter.element_size())
                found[name] = found.get(name, 0) + own
    return found


_REFERENCE = re.compile(r"\\\\\d|\\\d")
"""A group of the source pattern, in a target pattern."""


def _targets(converters: Iterable[Any]) -> re.Pattern[str] | None:
    """What matches the names of all parameters that are made by conversions on their device."""
    patterns = [
        ".+".join(map(re.escape, _REFERENCE.split(target.strip("^$"))))
        for converter in converters
        if not getattr(converter, "force_cpu", False)
        for target in converter.target_patterns
    ]
    return re.compile(f"(?:{'|'.join(patterns)})$") if patterns else None
