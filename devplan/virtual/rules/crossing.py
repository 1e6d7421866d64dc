"""Ops that take operands of several devices on purpose, or look at nothing but their sizes.

Copies (``copy_``, ``slice_scatter``, ``_foreach_copy_``) are what transfers are made of; ``fill_``
and the tensor ends of ``linspace`` are read with ``item()``; ``expand_as`` and its kin ask for a
shape.  ``type_as`` and ``to(other)`` move: the result lies with the other tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from devplan.virtual.rules.rule import Call, Clash, clash_at


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Nothing is required; the result lies with the argument `follows`."""

    follows: str | None = None
    """None: with the first tensor."""
    name: str = "crosses devices"
    source: str = "aten/src/ATen/native/Copy.cpp; aten/src/ATen/native/Fill.cpp"

    def weigh(self, call: Call) -> Clash | None:
        return None

    def home(self, call: Call) -> torch.device:
        followed = call.of(self.follows) if self.follows else ()
        return (followed or call.seen)[0].device


@dataclass(frozen=True, kw_only=True)
class OnCpu:
    """One argument must lie on the CPU, wherever the rest is."""

    argument: str
    text: str
    """The message; ``{device}`` and ``{dims}`` are those of the argument."""
    name: str = "argument on the CPU"
    source: str = "aten/src/ATen/native/PackedSequence.cpp"

    def weigh(self, call: Call) -> Clash | None:
        odd = [item for item in call.of(self.argument) if not item.is_cpu]
        if not odd:
            return None
        message = self.text.format(device=odd[0].device, dims=odd[0].tensor.dim())
        return clash_at(message, torch.device("cpu"), odd)

    def home(self, call: Call) -> torch.device:
        return call.seen[0].device
