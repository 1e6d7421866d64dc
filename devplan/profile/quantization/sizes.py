"""What a quantization method makes of a model's parameters: the result, and how it is added up.

A converted parameter turns into *pieces* (packed weight, scales, zero points, code tables, ...).
All of them are counted under the name of the parameter, in the form in which the method stores
them.  Where the installed transformers does not keep that form in memory, `in_memory` says what
lies there instead: it unpacks some, and widens others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

Pieces = Mapping[str, int]
"""Name of a piece -> bytes."""


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
        """Enter the pieces of a converted parameter; the same mapping may serve many of them."""
        key = id(pieces)
        if key not in self._pieces:
            self._pieces[key] = pieces
        self._times[key] += 1
        self._bytes[parameter] = sum(pieces.values())

    def __contains__(self, parameter: str) -> bool:
        return parameter in self._bytes

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
