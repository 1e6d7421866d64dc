"""How a model is run: ``forward``, ``generate`` with arguments, or a function of the user's.

A phase is what a run is divided into for its findings.  Each call of the whole model's
``forward`` is one: ``prefill`` and ``decode 1``, ``decode 2``, ... of ``generate``, ``forward``
otherwise.  Code that only calls parts of the model (a codec's ``decode``, a speech model whose
``generate`` runs one part after the other) has a single phase, named after the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Any

from torch import nn

DECODE_STEPS = 2
"""Steps with the cache after the prefill: the first grows what prefill made, the second what a
step made."""
GREEDY = MappingProxyType(
    {
        "max_new_tokens": DECODE_STEPS + 1,
        "min_new_tokens": DECODE_STEPS + 1,
        "do_sample": False,
    }
)
"""How ``generate`` is called; the user's own arguments win."""


@dataclass(frozen=True, kw_only=True)
class ForwardCall:
    """One forward."""

    name: str = "forward"

    def run(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        return model(**inputs)

    def phases(self) -> Iterator[str]:
        return iter(lambda: self.name, None)


@dataclass(frozen=True, kw_only=True)
class GenerateCall:
    """``generate`` with the cache, greedily unless asked otherwise."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of ``generate``."""
    name: str = "generate"

    def run(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        return model.generate(**inputs, **{**GREEDY, **self.arguments})

    def phases(self) -> Iterator[str]:
        yield "prefill"
        for number in count(1):
            yield f"decode {number}"


@dataclass(frozen=True, kw_only=True)
class UserCall:
    """A function of the user's that is handed the model and its inputs."""

    function: Callable[[nn.Module, Mapping[str, Any]], Any]

    @property
    def name(self) -> str:
        return self.function.__name__

    def run(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        return self.function(model, inputs)

    def phases(self) -> Iterator[str]:
        for number in count(1):
            yield f"forward {number}"


ModelCall = ForwardCall | GenerateCall | UserCall
