"""What a profile says: the bytes of each block, and what one run of the model showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from devplan.blocks import BlockSite
from devplan.types import ActivationGrowth, CacheGrowth, SharedInput


@dataclass(frozen=True, kw_only=True)
class BlockBytes:
    """Tensors of one block; a tied tensor counts in the first block that holds it."""

    weight_bytes: int
    buffer_bytes: int
    onload_bytes: int
    """Most that is on a device at a time while the block runs with its weights elsewhere."""
    loading_bytes: int = 0
    """Most that a parameter takes beside itself while it is loaded."""


@dataclass(frozen=True, kw_only=True)
class WeightProfile:
    """Parameters and buffers as they will lie in memory."""

    blocks: Mapping[str, BlockBytes]
    tied: tuple[tuple[str, ...], ...]
    """Blocks that share a parameter or buffer."""
    num_parameters: int
    quantization: str | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RunProfile:
    """What virtual runs of the model's own code showed."""

    order: tuple[str, ...] = ()
    """Blocks in the order of their first call; empty when nothing ran."""
    cache: Mapping[str, tuple[CacheGrowth, ...]]
    """Block -> what its cache grows by; blocks without a cache are absent."""
    input_bytes_per_token: Mapping[str, int]
    """Block -> bytes of tensors that enter it alone (hidden states), for one token of one
    sequence."""
    shared_inputs: Mapping[str, tuple[SharedInput, ...]]
    """Block -> bytes of tensors that enter other blocks too (position embeddings, masks)."""
    made_up: tuple[str, ...] = ()
    """Ops whose integer results were made up."""
    notes: tuple[str, ...] = ()
    """What could not be seen, and why."""


@dataclass(frozen=True, kw_only=True)
class ActivationProfile:
    """What blocks need beside weights and cache while they run; empty when nothing ran."""

    blocks: Mapping[str, ActivationGrowth] = field(default_factory=dict)
    between: ActivationGrowth | None = None
    """Of the code between the blocks."""
    raised: str = ""
    """What the model's code raised before it came to its end; empty: nothing."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Everything that the graph is built from."""

    sites: tuple[BlockSite, ...]
    weights: WeightProfile
    run: RunProfile
    activations: ActivationProfile = field(default_factory=ActivationProfile)
    embedding: str | None
    """Block of the input embedding."""
    head: str | None
    """Block of the output embedding."""

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.weights.notes, *self.run.notes, *self.activations.notes)
