"""What an audit found: differences between a model and its map, and the use of each device."""

from __future__ import annotations

from dataclasses import dataclass

from devplan.core import Entry, format_bytes

KINDS = ("place", "meta", "hook", "tie", "memory")
"""A tensor lies elsewhere; a tensor has no values; inputs are not moved as they must be; tied
tensors came apart; more bytes than were foretold."""


@dataclass(frozen=True, kw_only=True)
class AuditDifference:
    """One way in which a model is not what its map says."""

    kind: str
    """One of `KINDS`."""
    name: str
    """Module or tensor; a device for ``memory``."""
    text: str
    """One line: what was found, and what the map says."""
    entry: Entry | None = None
    """The entry of the map that says otherwise."""

    def __str__(self) -> str:
        if self.entry is None:
            return self.text
        where = f"{self.entry.file}:{self.entry.line}: " if self.entry.line else ""
        return f"{where}{self.entry.key}: {self.entry.written}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class DeviceUse:
    """What lies on a device after loading, beside what the map foretells."""

    device: str
    predicted_bytes: int | None
    """Weights and buffers by the map; None where it does not say."""
    placed_bytes: int
    """Weights and buffers that are there: each storage once, offloaded ones where they wait."""
    allocated_bytes: int | None = None
    """All that PyTorch's allocator holds there; None where there is no such card."""

    def __str__(self) -> str:
        parts = [f"{self.device}: {format_bytes(self.placed_bytes)} of weights and buffers"]
        if self.predicted_bytes is not None:
            parts.append(f"{format_bytes(self.predicted_bytes)} predicted")
        if self.allocated_bytes is not None:
            parts.append(f"{format_bytes(self.allocated_bytes)} allocated by PyTorch")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """All of an audit."""

    map_name: str
    differences: tuple[AuditDifference, ...]
    uses: tuple[DeviceUse, ...]
    num_tensors: int
    """Parameters and buffers that were looked at, under each of their names."""

    @property
    def is_clean(self) -> bool:
        """Whether the model is what the map says."""
        return not self.differences

    def __str__(self) -> str:
        count = len(self.differences)
        head = f"{self.map_name}: {self.num_tensors} tensors, {count or 'no'} differences"
        return "\n".join([head, *map(str, self.differences), *map(str, self.uses)])
