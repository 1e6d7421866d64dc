"""What a skeleton is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True, eq=False)
class Skeleton:
    """A model on the meta device and what its class says about splitting it."""

    model: nn.Module
    config: Any
    """The library's configuration object; None for a user's own module."""
    class_name: str
    dtype: torch.dtype
    """Of the floating-point parameters."""
    no_split: frozenset[str]
    """Classes that must stay whole, declared anywhere in the model."""
    max_tokens: int | None
    """Longest context that the configuration promises; None when it says nothing."""
    notes: tuple[str, ...] = ()
    """What had to be decided while building, for people."""
    executable: bool = True
    """Whether the model's own code is there to be run."""
