"""How many copies the hooks of a model would have made, and how many were made."""

from __future__ import annotations

from dataclasses import dataclass

from devplan.core import format_bytes


@dataclass(frozen=True, kw_only=True)
class TransferCounts:
    """Copies of tensors from one device to another, asked for by accelerate's hooks."""

    num_forwards: int = 0
    num_asked: int = 0
    """Copies that the hooks asked for: what is made without the cache."""
    asked_bytes: int = 0
    num_made: int = 0
    """Copies that were made."""
    made_bytes: int = 0

    @property
    def num_saved(self) -> int:
        return self.num_asked - self.num_made

    @property
    def saved_bytes(self) -> int:
        return self.asked_bytes - self.made_bytes

    def __add__(self, other: TransferCounts) -> TransferCounts:
        return TransferCounts(
            num_forwards=self.num_forwards + other.num_forwards,
            num_asked=self.num_asked + other.num_asked,
            asked_bytes=self.asked_bytes + other.asked_bytes,
            num_made=self.num_made + other.num_made,
            made_bytes=self.made_bytes + other.made_bytes,
        )

    def __str__(self) -> str:
        return (
            f"{self.num_made:,} copies ({format_bytes(self.made_bytes)}) instead of "
            f"{self.num_asked:,} ({format_bytes(self.asked_bytes)}) in {self.num_forwards:,} "
            f"forward{'' if self.num_forwards == 1 else 's'}"
        )
