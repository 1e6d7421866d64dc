"""A story: everything that is told of one failure.

What is not known is None or empty.  A story of an exception that is on its way knows modules,
tensors and memory; one of a pasted traceback knows what stands in the text, and what the map and
the model's class say about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from devplan.core import Entry, Finding, Fix, OperandFact, SourceLine


class Kind(StrEnum):
    """What a message is about."""

    MISMATCH = "mismatch"
    MEMORY = "memory"
    META = "meta"
    MAP = "map"
    OFFLOAD = "offload"
    DEVICE = "device"
    QUANTIZED = "quantized"

    @property
    def title(self) -> str:
        """In words, for the head of a story."""
        return _TITLES[self]


_TITLES = {
    Kind.MISMATCH: "device mismatch",
    Kind.MEMORY: "out of memory",
    Kind.META: "tensor without values",
    Kind.MAP: "device map that cannot be used",
    Kind.OFFLOAD: "offload that cannot work",
    Kind.DEVICE: "device that cannot be used",
    Kind.QUANTIZED: "quantization that does not go with the map",
}


@dataclass(frozen=True, kw_only=True)
class CardMemory:
    """Memory of one card at the moment of the failure; None: not known."""

    device: str
    total_bytes: int | None = None
    free_bytes: int | None = None
    """As the driver says, other processes counted."""
    allocated_bytes: int | None = None
    """Tensors of this process."""
    reserved_bytes: int | None = None
    """What PyTorch's allocator holds, tensors among it."""
    predicted_bytes: int | None = None
    """What the map says that the workload needs, the reserve aside."""


@dataclass(frozen=True, kw_only=True)
class SeenWorkload:
    """What the model was asked to do when it failed."""

    batch: int
    tokens: int
    """Tokens of a sequence, as far as they were in the inputs of the call that failed."""
    end_tokens: int | None = None
    """Tokens at which ``generate`` was to stop."""

    @property
    def context_tokens(self) -> int:
        """What a map for it must hold."""
        return max(self.tokens, self.end_tokens or 0)


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What devplan's own check of the map says about the same place."""

    ran: bool
    """Whether the check could be run."""
    detail: str
    """In words: what was found, or why it was not run."""
    finding: Finding | None = None
    """The finding at the same line of code."""
    entries: tuple[Entry, ...] = ()
    """The map as the check read it."""


@dataclass(frozen=True, kw_only=True)
class FailureReport:
    """One failure, told."""

    id: str
    """Of the message in the table: ``two-devices``."""
    kind: Kind
    exception: str
    """``RuntimeError``."""
    message: str
    """The exception's own words, in one line."""
    meaning: str
    causes: tuple[str, ...] = ()
    """The likeliest first."""
    remedies: tuple[Fix, ...] = ()
    """The best first."""
    rule: str | None = None
    """The rule of `devplan check` that finds it: ``DP301``."""
    origin: str = ""
    """Which library says so: ``torch 2.13.0, aten/src/ATen/TensorIterator.cpp``."""
    op: str | None = None
    module: str | None = None
    """Dotted name of the innermost module whose code ran; the empty name is the model."""
    module_class: str | None = None
    modules: tuple[str, ...] = ()
    """Where only the class is known: the modules that it may have been."""
    source: SourceLine | None = None
    """The innermost line of the model's code."""
    stack: tuple[SourceLine, ...] = ()
    """Lines of the model's code that led there, outermost first."""
    tensors: tuple[OperandFact, ...] = ()
    devices: tuple[str, ...] = ()
    """That the message names."""
    entry: Entry | None = None
    """The entry of the map behind it."""
    map_entries: tuple[Entry, ...] = ()
    """The map, for repairs shown as changes of it."""
    cards: tuple[CardMemory, ...] = ()
    requested_bytes: int | None = None
    """What could not be allocated."""
    workload: SeenWorkload | None = None
    confirmation: Confirmation | None = None
    ranks: tuple[str, ...] = ()
    """Processes that said the same, where the text names them."""
    count: int = 1
    """How often the text says it."""
    notes: tuple[str, ...] = ()
    """What is not known, and why."""

    @property
    def headline(self) -> str:
        """``device mismatch in model.layers.3.mlp (LlamaMLP)``."""
        where = self.module or self.module_class
        if where is None:
            return self.kind.title
        name = self.module or ("the model's own code" if self.module == "" else where)
        kind = f" ({self.module_class})" if self.module_class and self.module is not None else ""
        return f"{self.kind.title} in {name}{kind}"
