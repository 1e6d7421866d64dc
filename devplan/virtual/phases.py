"""What a run is divided into while it goes on: see ``devplan.virtual.calls``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

ENTRIES = ("forward", "encode", "decode")
"""Methods by which a pipeline enters a component; autoencoders have the last two."""


def follow_calls(
    model: nn.Module,
    names: Iterator[str],
    begin: Callable[[str], None],
    end: Callable[[Any], None],
) -> None:
    """Begin a phase at each call of the whole model, and end it with what the call gave."""
    original = model.forward

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        begin(next(names))
        result = original(*args, **kwargs)
        end(result)
        return result

    model.forward = forward


def follow_components(model: nn.Module, begin: Callable[[str], None]) -> None:
    """Begin a phase where a component of a pipeline is entered; what follows belongs to it."""
    for name, component in model.named_children():
        for method in ENTRIES:
            original = getattr(component, method, None)
            if original is not None:
                setattr(component, method, _beginning(original, name, begin))


def _beginning(original: Callable[..., Any], name: str, begin: Callable[[str], None]) -> Any:
    @functools.wraps(original)
    def entered(*args: Any, **kwargs: Any) -> Any:
        begin(name)
        return original(*args, **kwargs)

    return entered
