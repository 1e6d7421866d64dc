"""The report of one failure.

Unknown fields are None or empty.  The report of an exception that is being raised knows modules,
tensors and memory; the report of a pasted traceback knows only its text, and what follows from the
map and from the model's class.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from devplan.core import DeviceUsage, Entry, Finding, Fix, OperandFact, SourceLine


class FailureKind(StrEnum):
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
        """In words, for the head of a report."""
        return _TITLES[self]


_TITLES = {
    FailureKind.MISMATCH: "device mismatch",
    FailureKind.MEMORY: "out of memory",
    FailureKind.META: "tensor without values",
    FailureKind.MAP: "device map that cannot be used",
    FailureKind.OFFLOAD: "offload that cannot work",
    FailureKind.DEVICE: "device that cannot be used",
    FailureKind.QUANTIZED: "quantization that does not go with the map",
}


@dataclass(frozen=True, kw_only=True)
class SeenWorkload:
    """What the model was asked to do when it failed."""

    batch: int
    tokens: int
    """Tokens of a sequence, as far as they were in the inputs of the call that failed."""
    end_tokens: int | None = None
    """Tokens at which ``generate`` was to stop."""

    @property
    def context(self) -> int:
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
    """What failed, where, why, and how to fix it."""

    id: str
    """Of the message in the table: ``two-devices``."""
    kind: FailureKind
    exception: str
    """``RuntimeError``."""
    message: str
    """The exception's own words, in one line."""
    meaning: str
    causes: tuple[str, ...] = ()
    """The likeliest first."""
    fixes: tuple[Fix, ...] = ()
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
    """The map, for fixes shown as changes of it."""
    cards: tuple[DeviceUsage, ...] = ()
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
