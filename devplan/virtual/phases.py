"""What a run is divided into while it goes on: see ``devplan.virtual.calls``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from itertools import count, repeat
from typing import Any

from torch import nn

from devplan.virtual.entries import has_forward, parts_with_forward

ENTRIES = ("forward", "encode", "decode")
"""Methods by which a pipeline enters a component; autoencoders have the last two."""


def follow_calls(
    model: nn.Module,
    names: Iterator[str],
    begin: Callable[[str], None],
    end: Callable[[str, Any], None],
) -> None:
    """Begin a phase at each call of the whole model, and end it with what the call gave.

    Of a model without a ``forward``, each call of a part is one; `end` is told the part's name.
    """
    if has_forward(model):
        _follow(model, "", names, begin, end)
    for name, part in parts_with_forward(model):
        _follow(part, name, _phases_of(name, part), begin, end)


def _follow(
    module: nn.Module,
    part: str,
    names: Iterator[str],
    begin: Callable[[str], None],
    end: Callable[[str, Any], None],
) -> None:
    original = module.forward

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        begin(next(names))
        result = original(*args, **kwargs)
        end(part, result)
        return result

    module.forward = forward


def _phases_of(name: str, part: nn.Module) -> Iterator[str]:
    """``talker prefill``, ``talker decode 1``, ... of a part that generates, else its name."""
    if not callable(getattr(part, "generate", None)):
        yield from repeat(name)
    yield f"{name} prefill"
    for number in count(1):
        yield f"{name} decode {number}"


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
