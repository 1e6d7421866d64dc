"""What a quantization method makes of a model's parameters: the result, and how it is added up.

A converted parameter turns into *pieces* (packed weight, scales, zero points, code tables, ...).
All of them are counted under the name of the parameter, in the form in which the method stores
them.  Where the installed transformers does not keep that form in memory, `in_memory` says what
lies there instead: it unpacks some, and widens others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import nn

from devplan.core import format_bytes
from devplan.profile.quantization.linears import FusedWeight, Linear, fused_weights, linear_shape
from devplan.profile.tree import NamedModules

Pieces = Mapping[str, int]
"""Name of a piece -> bytes."""
Answer = Pieces | str | None
"""The pieces of a parameter, or why it stays as it is; None: the method does not look at it."""

NOT_LINEAR = "fused experts are not nn.Linear"


@dataclass(frozen=True, kw_only=True)
class QuantizedSizes:
    """Bytes of the parameters that a quantization method converts."""

    method: str
    """``quant_method``; bitsandbytes with ``_8bit`` or ``_4bit``."""
    bytes: Mapping[str, int]
    """Converted parameter -> bytes of all its pieces, in the form that the method stores."""
    parts: Pieces
    """Piece -> bytes over the whole model; sums to ``sum(bytes.values())``."""
    in_memory: Mapping[str, int] = field(default_factory=dict)
    """Parameter -> bytes once the model runs, where that differs from `bytes` or, for a parameter
    that is not converted, from elements times dtype."""
    unquantized: Mapping[str, str] = field(default_factory=dict)
    """Linear module, or fused experts, that stays as it is -> why."""
    notes: tuple[str, ...] = ()
    """What a person should know before trusting the figures."""

    @property
    def resident(self) -> Mapping[str, int]:
        """Parameter -> bytes once the model runs: `bytes`, overruled by `in_memory`."""
        return {**self.bytes, **self.in_memory}


class Ledger:
    """Collects the pieces of parameter after parameter and closes as `QuantizedSizes`."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.in_memory: dict[str, int] = {}
        self.unquantized: dict[str, str] = {}
        self.notes: list[str] = []
        self._bytes: dict[str, int] = {}
        self._times: Counter[int] = Counter()
        self._pieces: dict[int, Pieces] = {}

    def add(self, parameter: str, pieces: Pieces) -> None:
        """Enter the pieces of a converted parameter; one mapping may serve many parameters."""
        key = id(pieces)
        if key not in self._pieces:
            self._pieces[key] = pieces
        self._times[key] += 1
        self._bytes[parameter] = sum(pieces.values())

    def convert_linears(
        self,
        modules: NamedModules,
        answer: Callable[[str, nn.Module, Linear], Answer],
        *,
        kind: type[nn.Module] = nn.Linear,
        shape_of: Callable[[nn.Module], Linear | None] = linear_shape,
        bias: Callable[[str, Linear], None] | None = None,
    ) -> None:
        """Enter the linear modules of a model.

        Parameters
        ----------
        answer
            Of a module: name, module and shape -> its pieces, or why it stays.
        kind
            Modules that the method looks at: ``nn.Module`` for those that convert ``Conv1D`` too.
        shape_of
            Shape of a module; None: it is not looked at.
        bias
            Enters the bias of a converted module, where the method changes it.
        """
        for name, module in modules:
            shape = shape_of(module) if isinstance(module, kind) else None
            if shape is None:
                continue
            is_converted = self._enter(f"{name}.weight", name, answer(name, module, shape))
            if is_converted and bias is not None and module._parameters.get("bias") is not None:
                bias(f"{name}.bias", shape)

    def convert_experts(
        self, modules: NamedModules, answer: Callable[[FusedWeight], Answer]
    ) -> None:
        """Enter the fused experts of a model: parameter -> its pieces, or why it stays."""
        for fused in fused_weights(modules):
            self._enter(fused.parameter, fused.module, answer(fused))

    def _enter(self, parameter: str, module: str, answer: Answer) -> bool:
        if isinstance(answer, str):
            self.unquantized[module] = answer
        elif answer is not None:
            self.add(parameter, answer)
        return isinstance(answer, Mapping)

    def note_experts_left(self, name: str, modules: NamedModules, dtype: torch.dtype) -> None:
        """A note on the fused experts that the method leaves in the model's dtype."""
        left = sum(
            fused.linear.numel * dtype.itemsize
            for fused in fused_weights(modules)
            if fused.parameter not in self._bytes
        )
        if left:
            self.notes.append(
                f"{name} does not convert fused experts: {format_bytes(left)} of them stay in "
                f"{str(dtype).removeprefix('torch.')}"
            )

    def close(self) -> QuantizedSizes:
        """What was collected, for good."""
        parts: Counter[str] = Counter()
        for key, times in self._times.items():
            for piece, num_bytes in self._pieces[key].items():
                parts[piece] += num_bytes * times
        return QuantizedSizes(
            method=self.method,
            bytes=MappingProxyType(self._bytes),
            parts=MappingProxyType(dict(parts)),
            in_memory=MappingProxyType(self.in_memory),
            unquantized=MappingProxyType(self.unquantized),
            notes=tuple(self.notes),
        )
