"""What a profile says: the bytes of each block, and what one run of the model showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from devplan.core import PREFILL, ActivationGrowth, CacheGrowth, SharedInput
from devplan.environment import missing_notes
from devplan.models import BlockSite


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
    packed: bool = False
    """Whether quantized weights count as they are stored where transformers would unpack them."""
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
    made_shape: tuple[int, ...] | None = None
    """Frames, height and width of what a pipeline made; None for other models."""
    raised: str = ""
    """What the model's code raised before it came to its end; empty: nothing."""
    notes: tuple[str, ...] = ()


@dataclass(kw_only=True)
class ReadWork:
    """What a block did in one step of a run; grows while the run goes on."""

    flops: int = 0
    read_bytes: dict[str, int] = field(default_factory=dict)
    """Block -> bytes of its parameters that were read, as they lie in the run: a tied head reads
    those of the embedding."""

    def of_block(self, ran: str, name: str) -> ReadWork:
        """The same work done by another block of the kind, which reads its own parameters."""
        read = {name if owner == ran else owner: size for owner, size in self.read_bytes.items()}
        return ReadWork(flops=self.flops, read_bytes=read)


@dataclass(frozen=True, kw_only=True)
class WorkProfile:
    """What blocks do in a prefill and in a decode step; empty when it was not counted."""

    steps: Mapping[str, Mapping[str, ReadWork]] = field(default_factory=dict)
    """Block -> step -> work; the empty name stands for the code between the blocks."""
    parameter_bytes: Mapping[str, int] = field(default_factory=dict)
    """Block -> bytes of its own parameters as they lie in the run, before any quantization."""
    notes: tuple[str, ...] = ()

    def scaled(self, factor: float, note: str) -> WorkProfile:
        """With the arithmetic of a prefill that many times as much."""
        steps = {
            block: {
                step: ReadWork(
                    flops=int(work.flops * (factor if step == PREFILL else 1)),
                    read_bytes=work.read_bytes,
                )
                for step, work in by_step.items()
            }
            for block, by_step in self.steps.items()
        }
        return replace(self, steps=steps, notes=(*self.notes, note))


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Everything that the graph is built from."""

    sites: tuple[BlockSite, ...]
    weights: WeightProfile
    run: RunProfile
    activations: ActivationProfile = field(default_factory=ActivationProfile)
    work: WorkProfile = field(default_factory=WorkProfile)
    embedding: str | None
    """Block of the input embedding."""
    head: str | None
    """Block of the output embedding."""
    components: tuple[str, ...] = ()
    """Of a pipeline: its models."""
    home: str | None = None
    """Of a pipeline: the model on whose device it makes its latents."""
    entered: str | None = None
    """Of a model without a ``forward``: the part that its ``generate`` begins with."""

    @property
    def notes(self) -> tuple[str, ...]:
        parts = (self.weights, self.run, self.activations, self.work)
        return (*(note for part in parts for note in part.notes), *missing_notes())
