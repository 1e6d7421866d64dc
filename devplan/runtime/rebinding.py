"""accelerate's own code, in which one name is another: ``send_to_device``."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from devplan.runtime.caching import TransferCache

_MOVES = "send_to_device"


class PreForward:
    """``pre_forward`` of one hook, asking a cache; a copy of the hook gets one of its own."""

    def __init__(self, hook: Any, cache: TransferCache) -> None:
        self.hook = hook
        self.cache = cache
        self.function = cache.function_for(type(hook))

    def __call__(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # accelerate keeps its hooks out of compiled code
            return type(self.hook).pre_forward(self.hook, module, *args, **kwargs)
        return self.function(self.hook, module, *args, **kwargs)

    def __reduce__(self) -> tuple:
        return PreForward, (self.hook, self.cache)


def bound_anew(function: Callable, send: Callable) -> Callable | None:
    """The same code, in which ``send_to_device`` is another; None where the code has no such name.

    accelerate's decorator, which keeps a hook out of compiled code, is left out: it costs more than
    what it wraps, and the caller sees to it.
    """
    plain = inspect.unwrap(function)
    if not isinstance(plain, types.FunctionType) or not _names(plain.__code__, _MOVES):
        return None
    scope = {**plain.__globals__, _MOVES: send}
    bound = types.FunctionType(
        plain.__code__, scope, plain.__name__, plain.__defaults__, plain.__closure__
    )
    bound.__kwdefaults__ = plain.__kwdefaults__
    return bound


def _names(code: types.CodeType, name: str) -> bool:
    """Whether code, or a generator expression in it, uses a global name."""
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return name in code.co_names or any(_names(each, name) for each in inner)
