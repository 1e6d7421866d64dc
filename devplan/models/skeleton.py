"""What a skeleton is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from devplan.models.source import ModelSource


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
    components: Mapping[str, Component] = field(default_factory=dict)
    """Of a pipeline: its models by name; empty for one model."""
    own_inputs: str | None = None
    """``file.py:function`` of the user's that makes its inputs; None: devplan makes them."""
    executable: bool = True
    """Whether the model's own code is there to be run."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Component:
    """A model of a pipeline, built on its own."""

    skeleton: Skeleton
    source: ModelSource
