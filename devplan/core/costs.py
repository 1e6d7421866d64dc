"""The vocabulary of time: links, work, traffic, and what a request is foretold to take.

As in `types`, every dataclass here crosses a file border, is frozen, and has its units in its
names.  All times are *foretold*: sums of bytes over bandwidths and of flops over speeds.
Python's own time and the launching of kernels are no part of them.

A *step* is one forward of the model.  A request is one prefill (the prompt) and as many decode
steps as there are new tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PREFILL = "prefill"
DECODE = "decode"
STEPS = (PREFILL, DECODE)
WHOLE_RUN = "run"
"""The one step of a pipeline: prompts, a few denoising steps, and the decoding of what came out."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """What joins two devices, in either direction."""

    source: str
    target: str
    name: str
    """In words: ``NVLink 3``, ``PCIe 4.0 x16 through the host``."""
    bytes_per_s: int
    """Of copies in one direction."""
    latency_s: float
    """Of the smallest copy."""
    basis: str
    """Who says so: ``given``, ``measured``, ``catalogue`` (by the names of the cards), ``assumed``
    (they are not known)."""

    def seconds(self, num_bytes: float, num_copies: float = 1) -> float:
        """What that many copies of that many bytes together take."""
        return num_copies * self.latency_s + num_bytes / self.bytes_per_s


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one step asks of a card: arithmetic, and bytes of weights that are read."""

    flops: int = 0
    """Of matrix products, attention and convolutions; a multiplication and an addition are two."""
    read_bytes: int = 0
    """Of weights, as they are stored; of experts, only those that are used.  The cache comes on
    top (`Block.cache_bytes`)."""


@dataclass(frozen=True, kw_only=True)
class StepWork:
    """What a block does in a prefill and in a decode step at the workload."""

    prefill: Work = field(default_factory=Work)
    decode: Work = field(default_factory=Work)

    def at(self, step: str) -> Work:
        return self.prefill if step == PREFILL else self.decode


@dataclass(frozen=True, kw_only=True)
class Route:
    """All copies from one device to another in one step."""

    step: str
    """``prefill`` or ``decode``, ``run`` of a pipeline."""
    source: str
    target: str
    num_copies: int
    num_bytes: int
    link: str
    """Name of the link."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What crosses between devices in a prefill and in a decode step."""

    basis: str
    """``run``: every copy of a virtual run of the split model; ``graph``: from what enters the
    blocks, where the plan was not run."""
    prompt_tokens: int | None
    """Of each sequence, in the prefill; None: the inputs were the user's."""
    routes: tuple[Route, ...] = ()

    def of(self, step: str) -> tuple[Route, ...]:
        return tuple(route for route in self.routes if route.step == step)

    def num_copies(self, step: str) -> int:
        return sum(route.num_copies for route in self.of(step))

    def num_bytes(self, step: str) -> int:
        return sum(route.num_bytes for route in self.of(step))

    def seconds(self, step: str) -> float:
        return sum(route.seconds for route in self.of(step))


@dataclass(frozen=True, kw_only=True)
class CardTime:
    """What a card works in each step."""

    device: str
    prefill_s: float
    decode_s: float

    def at(self, step: str) -> float:
        return self.prefill_s if step == PREFILL else self.decode_s


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What a request is foretold to take; one card works at a time."""

    prompt_tokens: int
    new_tokens: int
    cards: tuple[CardTime, ...]
    transfer_s: Mapping[str, float]
    """Step -> time of its transfers."""
    lower_bound_s: float
    """No placement of these blocks on these cards, with the same ones offloaded, takes less for the
    request."""

    def step_s(self, step: str) -> float:
        """The whole of a step: cards and transfers."""
        return sum(card.at(step) for card in self.cards) + self.transfer_s[step]

    @property
    def request_s(self) -> float:
        """One prefill, and a decode step for every new token but the first."""
        return self.step_s(PREFILL) + num_decode_steps(self.new_tokens) * self.step_s(DECODE)


def num_decode_steps(new_tokens: int) -> int:
    """The prefill gives the first new token itself."""
    return max(new_tokens - 1, 0)
