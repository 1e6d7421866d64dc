"""The vocabulary: every dataclass that crosses a file border.

Devices are always strings as torch writes them (``"cuda:0"``, ``"cpu"``, ``"disk"``).  Bytes are
``int``.  Everything here is frozen; nothing here imports torch.

The words, in the order in which data takes its way (`ModelSource` and `Skeleton`, which hold torch
objects, live in ``devplan.models`` and ``devplan.models``)::

    ModelSource -> Skeleton -> Profile -> BlockGraph -> Plan | Infeasible -> DeviceMapFile
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from devplan.core.costs import Link, StepWork, Timing, Traffic
from devplan.core.environment import Lock
from devplan.core.workload import Workload

CPU = "cpu"
DISK = "disk"
OFFLOAD_DEVICES = (CPU, DISK)


# ------------------------------------------------------------------------------------- machine


@dataclass(frozen=True, kw_only=True)
class Card:
    """One GPU of the machine that is planned for."""

    device: str
    """As the map will name it: ``cuda:0``."""
    name: str
    """As the driver or the catalogue calls it, or its size where only that was given."""
    capacity_bytes: int
    reserve_bytes: int
    """Kept free of the plan: CUDA context, library workspaces, fragmentation, activations."""

    @property
    def budget_bytes(self) -> int:
        """What a plan may fill: capacity less reserve."""
        return self.capacity_bytes - self.reserve_bytes


@dataclass(frozen=True, kw_only=True)
class OffloadTier:
    """Memory outside the GPUs that the user allowed: ``cpu`` or ``disk``."""

    device: str
    capacity_bytes: int | None
    """None: no bound is known."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The cards in the order in which they were named, and where inputs enter."""

    cards: tuple[Card, ...]
    main_device: str
    tiers: tuple[OffloadTier, ...] = ()
    links: tuple[Link, ...] = ()
    """Each joins two devices both ways; between others, what ``devplan.machine.links`` assumes."""

    def card(self, device: str) -> Card:
        return next(card for card in self.cards if card.device == device)

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(card.device for card in self.cards)


# ------------------------------------------------------------------------------------- profile


@dataclass(frozen=True, kw_only=True)
class CacheGrowth:
    """Bytes of one block's cache for one sequence, as a function of the tokens held.

    ``bytes(tokens) = constant + per_token * min(tokens, window)``: full attention has no window,
    a sliding window has one, linear attention and state-space layers have only the constant.
    Learnt from runs of the model's own code (``devplan.profile.cache``).
    """

    constant_bytes: int = 0
    bytes_per_token: int = 0
    window_tokens: int | None = None

    def bytes_at(self, tokens: int, batch: int = 1) -> int:
        held = tokens if self.window_tokens is None else min(tokens, self.window_tokens)
        return batch * (self.constant_bytes + self.bytes_per_token * held)


@dataclass(frozen=True, kw_only=True)
class ActivationGrowth:
    """Bytes that a block's code needs beside weights and cache, as a function of the tokens held.

    Known where the model was run, and at most what the chord between two runs says in between
    (activations grow linearly, masks of ``tokens x tokens`` quadratically).  Beyond the last run
    the curve through the last three goes on, or the line through the last two where that is above
    it; before the first run, what the first one needed is an upper bound.
    """

    samples: tuple[tuple[int, int], ...]
    """(tokens per sequence, bytes) of each run, both rising."""
    batch: int = 1
    """Sequences of the runs; other batches are taken to need their share."""

    def bytes_at(self, tokens: int, batch: int = 1) -> int:
        return -(-self._at(tokens) * batch // self.batch)

    def _at(self, tokens: int) -> int:
        (first, least), (last, _) = self.samples[0], self.samples[-1]
        if tokens <= first:
            return least
        if tokens > last:
            return self._beyond(tokens)
        pairs = itertools.pairwise(self.samples)
        return next(_on_line(a, b, tokens) for a, b in pairs if a[0] < tokens <= b[0])

    def _beyond(self, tokens: int) -> int:
        if len(self.samples) == 1:
            last, num_bytes = self.samples[0]
            return -(-num_bytes * tokens // last)
        *_, before, after = self.samples
        line = _on_line(before, after, tokens)
        if len(self.samples) == 2:
            return line
        a, b, c = self.samples[-3:]
        rise = Fraction(c[1] - b[1], c[0] - b[0]) - Fraction(b[1] - a[1], b[0] - a[0])
        bend = rise / (c[0] - a[0]) * (tokens - b[0]) * (tokens - c[0])
        return line + max(math.ceil(bend), 0)


def _on_line(a: tuple[int, int], b: tuple[int, int], tokens: int) -> int:
    """Bytes on the line through two samples, rounded up."""
    return a[1] - (a[1] - b[1]) * (tokens - a[0]) // (b[0] - a[0])


# --------------------------------------------------------------------------------------- graph


@dataclass(frozen=True, kw_only=True)
class SharedInput:
    """Activations that enter many blocks: position embeddings, masks, the encoder's output.

    accelerate's hooks copy them to each block that lies on another device than where they are
    made, again and again.
    """

    maker: str | None
    """Block that makes them; None: made between the blocks, on the main device."""
    bytes_per_token: int
    """For one token of one sequence."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """The smallest thing that is placed whole: a module, or a tensor outside every block."""

    name: str
    """Dotted name in the model; its key in the device map."""
    class_name: str
    """Class of the module; ``Parameter`` or ``Buffer`` for a bare tensor."""
    weight_bytes: int
    """Parameters, as they lie in memory; tied tensors count in the block that owns them."""
    buffer_bytes: int
    cache: tuple[CacheGrowth, ...] = ()
    """What its cache grows by; several in a hybrid layer or where blocks were merged."""
    activation: ActivationGrowth | None = None
    """What its code needs while it runs; None: not known."""
    loading_bytes: int = 0
    """What a parameter takes beside itself while it is loaded, the most of all: the stored tensors
    that it is made of."""
    onload_bytes: int = 0
    """Most of the weights that is on a card at a time while the block runs offloaded."""
    stack: str | None = None
    """Name of the stack of layers that the block belongs to (``model.layers``), if to any."""
    stage_bound: bool = False
    """Whether the block is one of a stack that the main run walks through: these are what is
    spread over the cards; all else belongs on the main device."""
    input_bytes_per_token: int = 0
    """Bytes of activations that enter this block alone (hidden states), for one token of one
    sequence."""
    shared_inputs: tuple[SharedInput, ...] = ()
    """Activations that enter other blocks too."""
    work: StepWork | None = None
    """What it does at the workload; None: not counted."""

    @property
    def static_bytes(self) -> int:
        return self.weight_bytes + self.buffer_bytes

    def cache_bytes(self, tokens: int, batch: int = 1) -> int:
        return sum(growth.bytes_at(tokens, batch) for growth in self.cache)

    def activation_bytes(self, tokens: int, batch: int = 1) -> int:
        """Beside weights and cache, while it runs or is loaded: whichever needs more."""
        running = self.activation.bytes_at(tokens, batch) if self.activation else 0
        return max(running, self.loading_bytes)

    def load_bytes(self, tokens: int, batch: int = 1) -> int:
        """Weights, buffers and cache at a workload."""
        return self.static_bytes + self.cache_bytes(tokens, batch)


@dataclass(frozen=True, kw_only=True)
class BlockGraph:
    """The blocks in execution order, and what ties them together."""

    blocks: tuple[Block, ...]
    tied: tuple[tuple[str, ...], ...] = ()
    """Groups of block names that share a tensor and must share a device."""
    embedding: str | None = None
    """Block of the input embedding."""
    head: str | None = None
    """Block of the output embedding (``lm_head``)."""
    towers: tuple[str, ...] = ()
    """Stacks that the text run does not walk through: vision and audio towers."""
    between: ActivationGrowth | None = None
    """What the code between the blocks needs on the main device; None: not known."""
    between_work: StepWork | None = None
    """What the code between the blocks does on the main device; None: not counted."""
    unexecuted: tuple[str, ...] = ()
    """Blocks that the run did not reach; their order is that of the module tree."""
    components: tuple[str, ...] = ()
    """Of a pipeline: the modules that it runs one after the other, in that order."""
    home: str | None = None
    """The component on whose device a pipeline makes its latents."""
    entered: str | None = None
    """Of a model without a ``forward``: the part that its ``generate`` begins with."""

    def block(self, name: str) -> Block:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> Mapping[str, Block]:
        return {block.name: block for block in self.blocks}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(block.name for block in self.blocks)


# ---------------------------------------------------------------------------------------- plan


Placement = Mapping[str, str]
"""Block name -> device, one entry for every block: a solver's answer."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A contiguous run of blocks, in execution order, on one device."""

    device: str
    blocks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DeviceMemory:
    """Predicted bytes on one device, by part."""

    device: str
    weight_bytes: int = 0
    buffer_bytes: int = 0
    cache_bytes: int = 0
    onload_bytes: int = 0
    """Room for weights of an offloaded block while it runs; 0 without offload."""
    activation_bytes: int = 0
    """Of the block that needs most of them while it runs or is loaded, temporaries among them."""
    activation_block: str = field(default="", compare=False)
    """That block; empty: the code between the blocks, or not known."""
    reserve_bytes: int = 0
    capacity_bytes: int = 0
    """0 where the size of the device is not known."""
    uncounted: tuple[str, ...] = ()
    """Which of these fields are 0 as no run counted them."""

    @property
    def load_bytes(self) -> int:
        """Everything that is there between two forwards."""
        return self.weight_bytes + self.buffer_bytes + self.cache_bytes + self.onload_bytes

    @property
    def peak_bytes(self) -> int:
        """Everything that is there at the fullest moment, without the reserve."""
        return self.load_bytes + self.activation_bytes

    @property
    def room_bytes(self) -> int:
        """For the load: capacity less reserve and activations."""
        return self.capacity_bytes - self.reserve_bytes - self.activation_bytes

    @property
    def headroom_bytes(self) -> int:
        """Left over after load, activations and reserve; negative when the card overflows."""
        return self.room_bytes - self.load_bytes

    @property
    def share(self) -> float:
        """Load as a share of the room for it; above 1 does not fit."""
        if self.room_bytes > 0:
            return self.load_bytes / self.room_bytes
        return math.inf if self.load_bytes else 0.0


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """How good a plan is, and who says so."""

    objective: str
    bottleneck: float
    """Largest share over the cards."""
    lower_bound: float
    """No placement of these blocks on these cards, pinned or not, has a smaller bottleneck."""
    solver: str
    optimal_within: str
    """The class of placements in which the solver's answer is proven best, in words; empty when
    nothing is proven but the lower bound."""
    most_tokens: int | None = None
    """Tokens per sequence at which the first card is full; None when nothing grows."""
    most_tokens_bound: int | None = None
    """No placement holds more tokens than this."""
    first_full: str | None = None
    """The card that is full first when the context grows; None when nothing grows."""

    @property
    def gap(self) -> float:
        """``bottleneck / lower_bound - 1``."""
        return self.bottleneck / self.lower_bound - 1 if self.lower_bound else 0.0


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A block that was asked to be on a device, and by whom."""

    block: str
    device: str
    reason: str
    """``user``, or the sentence of the default pin: "the input ids enter here"."""


@dataclass(frozen=True, kw_only=True)
class Relaxation:
    """A default pin that could not be kept."""

    blocks: tuple[str, ...]
    reason: str
    """With the numbers: what is missing on the main device."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Activations that cross from one card to the next, for one token of one sequence."""

    source: str
    target: str
    before: str
    """The block that receives them."""
    bytes_per_token: int


@dataclass(frozen=True, kw_only=True)
class SharedCopies:
    """Copies of shared activations from one card to the blocks on another, in every forward."""

    source: str
    target: str
    num_copies: int
    """One for each tensor and block."""
    bytes_per_token: int
    """Of all copies together, for one token of one sequence."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A placement, what it costs, and its certificate."""

    placement: Placement
    stages: tuple[Stage, ...]
    loads: tuple[DeviceMemory, ...]
    offload_bytes: Mapping[str, int]
    """Weights and buffers on ``cpu`` and ``disk``."""
    pins: tuple[Pin, ...]
    relaxed: tuple[Relaxation, ...]
    transfers: tuple[Transfer, ...]
    shared_copies: tuple[SharedCopies, ...] = ()
    traffic: Traffic | None = None
    timing: Timing | None = None
    """None where speed was not asked for."""
    certificate: Certificate
    workload: Workload | None = None
    """What the loads are of; None where nobody needs to know."""
    contiguous: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """A change that makes the plan feasible, the smallest of its kind."""

    change: str
    """In words with numbers: ``--context 21504 instead of 32768``."""


@dataclass(frozen=True, kw_only=True)
class Infeasible:
    """No placement fits: a result, not an error."""

    reason: str
    """One line with the numbers."""
    loads: tuple[DeviceMemory, ...] = ()
    """Of every GPU, in the placement that overflows least; empty where none was made."""
    placement: Placement = field(default_factory=dict)
    """Block name -> device in that placement."""
    lower_bound: float
    """Bottleneck that no placement can go below; above 1 proves that nothing fits."""
    proven: bool
    """Whether it is proven that nothing fits, or only that nothing was found."""
    remedies: tuple[Remedy, ...] = ()

    @property
    def shortfalls(self) -> dict[str, int]:
        """GPU -> the bytes that it lacks in that placement."""
        return {load.device: -load.headroom_bytes for load in self.loads if load.headroom_bytes < 0}


# ------------------------------------------------------------------------------------ map file


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """Which model a map was made for."""

    id: str
    revision: str | None
    config_hash: str | None
    class_name: str
    auto_class: str | None = None
    """Auto class that loads it (``AutoModelForCausalLM``), where its class is code that comes with
    the model and runs only if it is trusted."""
    dtype: str
    quantization: str | None
    num_parameters: int
    components: tuple[str, ...] = ()
    """Of a pipeline: its models; `devplan.load` loads each by its part of the map."""
    repository: str | None = None
    """Where the files of a pipeline are, if not under its id."""
    packed: bool = False
    """Whether quantized weights count as they are stored, where transformers would unpack them."""
    quantize: str | None = None
    """How transformers quantizes the weights while it loads them (`devplan.core.quantize`)."""


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """What a virtual run taught the planner."""

    change: str
    """What the plan keeps to since: ``model.embed_tokens on cuda:0``."""
    finding: str
    """What was found without it, with its line of code."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was run to prove the map, and what it found."""

    status: str  # unverified, clean or findings
    detail: str
    runs: tuple[str, ...] = ()
    """Calls that ran: those at the workload first, then those with few tokens."""
    not_covered: str = ""
    peak_bytes: Mapping[str, int] = field(default_factory=dict)
    """Card -> everything on it at the fullest moment of the run, without the reserve."""
    phase_bytes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Of a pipeline: phase -> the same at the fullest moment of the phase."""


@dataclass(frozen=True, kw_only=True)
class DeviceMapFile:
    """Everything that a map file holds; ``devplan.mapfile`` reads and writes it."""

    device_map: Mapping[str, str]
    """Entry -> device, in devplan's own device strings; written as hf_device_map values."""
    model: ModelIdentity
    machine: Machine
    workload: Workload
    loads: tuple[DeviceMemory, ...]
    offload_bytes: Mapping[str, int]
    certificate: Certificate
    pins: tuple[Pin, ...]
    relaxed: tuple[Relaxation, ...]
    transfers: tuple[Transfer, ...]
    shared_copies: tuple[SharedCopies, ...] = ()
    traffic: Traffic | None = None
    timing: Timing | None = None
    constraints: tuple[Constraint, ...] = ()
    verification: Verification
    versions: Mapping[str, str]
    environment: Lock | None = None
    notes: tuple[str, ...] = field(default=())
