"""Parts of a model that generate by themselves: stopped after as many tokens as the model would be.

A class that holds several generating models (thinker and talker, semantic and acoustic tokens) asks
each of them for hundreds or thousands of tokens.  A run needs the prefill and two steps of each.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator
from typing import Any

from torch import nn

_LIMIT = "max_new_tokens"


@contextlib.contextmanager
def parts_stop_after(model: nn.Module, tokens: int) -> Iterator[None]:
    """Let no part of the model generate more than so many tokens; the model itself is free."""
    parts = [
        part
        for part in model.modules()
        if part is not model and callable(getattr(type(part), "generate", None))
    ]
    for part in parts:
        vars(part)["generate"] = _stopping(part.generate, tokens)
    try:
        yield
    finally:
        for part in parts:
            del vars(part)["generate"]


def _stopping(original: Any, tokens: int) -> Any:
    @functools.wraps(original)
    def generate(*args: Any, **kwargs: Any) -> Any:
        kwargs = {name: _lowered(name, value, tokens) for name, value in kwargs.items()}
        return original(*args, **kwargs)

    return generate


def _lowered(name: str, value: Any, tokens: int) -> Any:
    """An argument of ``generate`` with a limit that is no higher."""
    if name == _LIMIT and isinstance(value, int):
        return min(value, tokens)
    limit = getattr(value, _LIMIT, None)  # of a generation configuration, whatever it is called
    if isinstance(limit, int) and limit > tokens:
        value = copy.copy(value)
        setattr(value, _LIMIT, tokens)
    return value
