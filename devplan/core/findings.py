"""The vocabulary of checks: what a split run showed, and what is wrong with a map.

`RunRecord` is what virtual execution of a split model gives; rules (``devplan.checker``) read it
together with the map and the model's structure, and give `Finding`s; a `CheckResult` is all of
them, with what the check did not reach.  Everything is frozen; nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from devplan.core.device_map import Entry
from devplan.core.errors import DeviceMapError


@dataclass(frozen=True, kw_only=True)
class SourceLine:
    """A line of the model's code."""

    file: str
    """From the package on: ``transformers/models/qwen2_vl/modeling_qwen2_vl.py``; a path
    relative to the current folder, or absolute, for code outside every package."""
    line: int
    function: str
    text: str
    """The code in that line, stripped; empty where the file cannot be read."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class OperandFact:
    """A tensor that took part in an event."""

    argument: str
    """Name in the op's schema: ``self``, ``indices[0]``, ``mask``."""
    device: str
    shape: tuple[int, ...]
    dtype: str
    num_bytes: int
    name: str | None = None
    """Dotted name, where it is a parameter or buffer of the model."""
    makers: tuple[str, ...] = ()
    """The block that made it, or those whose results went into it between the blocks."""


@dataclass(frozen=True, kw_only=True)
class MismatchEvent:
    """An op that received tensors from devices that PyTorch does not let it mix."""

    op: str
    """``aten.index.Tensor``."""
    message: str
    """PyTorch's own text."""
    rule: str
    """Device rule that says so (``devplan.virtual.rules``)."""
    module: str
    """Dotted name of the innermost module whose code ran; the empty name is the model."""
    source: SourceLine | None
    """The line of the model's code; None where only library code was on the stack."""
    stack: tuple[SourceLine, ...] = ()
    """Lines of code of the model and its libraries that led there, outermost first."""
    operands: tuple[OperandFact, ...]
    phase: str
    """``prefill``, ``decode 1``, ``forward``, ..."""
    count: int = 1
    """How often it happened in the run, layers that were folded included."""


@dataclass(frozen=True, kw_only=True)
class TransferEvent:
    """Copies of tensors from one device to another, of one kind, from one place."""

    source_device: str
    target_device: str
    asked_by: str
    """``hook`` (accelerate moved an argument), ``offload`` (it loaded weights), ``io`` (it brought
    the output back), ``to`` (the model's own code), ``copy`` (an in-place copy)."""
    module: str
    """Module whose hook or code asked for it."""
    argument: str | None
    """Name of the argument, where a hook moved it by name."""
    maker: str | None
    """Block that made the tensor; None: an input, or made between the blocks."""
    source: SourceLine | None
    phase: str
    num_bytes: int
    """Of one copy."""
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class BlockInput:
    """Tensors of one kind that a block was called with in the first phase of a run."""

    block: str
    maker: str | None
    """Block that made them; None: inputs of the model, or made between the blocks."""
    device: str
    """Where they were when the block was called, before any hook moved them."""
    num_bytes: int
    """Of one."""
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class DevicePeak:
    """The fullest moment of one device."""

    device: str
    weight_bytes: int
    """Parameters and buffers that lie there throughout."""
    cache_bytes: int
    """KV cache at the end of the run."""
    peak_bytes: int
    """Everything at the fullest moment."""
    module: str
    phase: str
    """Where and when that was."""


@dataclass(frozen=True, kw_only=True)
class DeviceUsage:
    """Memory of a device as it was observed, beside what the map predicts; None: not known."""

    device: str
    predicted_bytes: int | None = None
    """By the map: weights and buffers for an audit, all that the workload needs for a failure, the
    reserve aside."""
    placed_bytes: int | None = None
    """Weights and buffers of the model: each storage once, offloaded ones where they wait."""
    allocated_bytes: int | None = None
    """Tensors of this process, as PyTorch's allocator counts them."""
    reserved_bytes: int | None = None
    """Everything that PyTorch's allocator holds, tensors included."""
    free_bytes: int | None = None
    """As the driver reports it, so that other processes count."""
    total_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class BlockActivation:
    """Bytes that a block's code needed on a device beside weights and cache."""

    block: str
    """The empty name stands for the code between the blocks."""
    phase: str
    device: str
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class MadeUpValue:
    """An integer that had to come out of abstract floats, so that a plausible one was taken."""

    op: str
    source: SourceLine | None
    count: int = 1


DISPATCH = "dispatch"
"""Phase in which accelerate attaches its hooks, before any code of the model runs."""


@dataclass(frozen=True, kw_only=True)
class ModelError:
    """An exception of the model's own code: no device mismatch, and the end of the run."""

    type: str
    message: str
    source: SourceLine | None
    stack: tuple[SourceLine, ...] = ()
    phase: str
    raised_whole: bool = False
    """Whether the model's code raises it on one GPU too, so that no map is at fault."""


@dataclass(frozen=True, kw_only=True)
class MissedRun:
    """A run, or some steps of one, that was to happen and did not."""

    name: str
    """What it is called: ``beam search``, ``decode 1 of generate``."""
    reason: str
    is_refused: bool = False
    """Whether the class itself cannot do it, split or not."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What one virtual run of a split model showed."""

    name: str = ""
    """What the run was: ``generate``, ``beam search``, ``text alone``, ..."""
    is_short: bool = False
    """Whether it had few tokens, and not the workload: its memory says nothing of that."""
    phases: tuple[str, ...]
    """The phases that ran to their end."""
    prompt_tokens: int | None = None
    """Tokens of each sequence in the first forward; placeholders of images that nobody asked for
    come on top.  None: the inputs are the user's."""
    inputs: str
    """What went in, in words: ``text of 64 tokens, 1 image of 448 x 448; batch 1``."""
    mismatches: tuple[MismatchEvent, ...] = ()
    transfers: tuple[TransferEvent, ...] = ()
    entering: tuple[BlockInput, ...] = ()
    brought_back: tuple[str, ...] = ()
    """Modules whose output accelerate brings to where their inputs were."""
    peaks: tuple[DevicePeak, ...] = ()
    activations: tuple[BlockActivation, ...] = ()
    executed: frozenset[str] = frozenset()
    """Modules whose forward ran."""
    used: frozenset[str] = frozenset()
    """Weights and buffers that ops took though no block ran that holds them, each by the first of
    its names."""
    made_up: tuple[MadeUpValue, ...] = ()
    assumed_ops: tuple[str, ...] = ()
    """Ops that no device rule is known for; the default rule was taken."""
    guessed_ops: tuple[str, ...] = ()
    """Those that do not say what they give; it was taken to be like their first operand."""
    error: ModelError | None = None
    num_ops: int = 0
    cut_to_tokens: int | None = None
    """Text tokens that ran, where the model's code loops over tokens and fewer than asked did."""
    entered: str = ""
    """Which other way in was run, where the model's code refused the usual one; empty: none."""
    notes: tuple[str, ...] = ()


# --------------------------------------------------------------------------------- diagnostics


class Severity(StrEnum):
    """How bad it is: errors stop the model, warnings cost or may break, notes are limits."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, kw_only=True)
class Fix:
    """What to do about a finding or a failure: in words, as a command, as entries of the map."""

    text: str = ""
    """Empty where nothing can be done."""
    command: str = ""
    """Of a shell, or a line of Python."""
    changed_entries: Mapping[str, str] = field(default_factory=dict)
    """Entry -> device, of entries that are changed or added."""
    dropped_entries: tuple[str, ...] = ()
    """Entries that are removed, such as one whose module has another name now."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding."""

    code: str
    """``DP301``."""
    severity: Severity
    message: str
    """One sentence with the names and numbers."""
    module: str | None = None
    """Its dotted name; of a finding about this machine, the device, library or setting."""
    op: str | None = None
    source: SourceLine | None = None
    also_at: tuple[SourceLine, ...] = ()
    """Other lines of code where the same mistake shows."""
    tensors: tuple[OperandFact, ...] = ()
    entry: Entry | None = None
    pytorch_message: str | None = None
    """What PyTorch would print."""
    fix: Fix = field(default_factory=Fix)
    planned: str | None = None
    """Of a finding about this machine: as the map has it."""
    found: str | None = None
    """As it is here."""
    count: int = 1
    ignored_because: str | None = None
    """Why the user ignores it; None: it counts."""

    @property
    def where(self) -> str:
        """The place in few words: the line of the map, else the module, else the line of code."""
        if self.entry is not None:
            place = f"{self.entry.file}:{self.entry.line}" if self.entry.line else ""
            return place or f"entry {self.entry.key!r}"
        return self.module or str(self.source or "the map")


@dataclass(frozen=True, kw_only=True, repr=False)
class CheckResult:
    """What the check of one map found."""

    map_name: str
    model: str
    class_name: str
    findings: tuple[Finding, ...]
    ignored: tuple[Finding, ...] = ()
    """Findings that the user ignores, by code with a reason or by baseline."""
    entries: tuple[Entry, ...] = ()
    """The map as it was read; reports show repairs as changes of it."""
    runs: tuple[RunRecord, ...] = ()
    """The call at the workload first, then the short ones."""
    missed: tuple[MissedRun, ...] = ()
    """What was to run and did not."""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(d for d in self.findings if d.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(d for d in self.findings if d.severity is Severity.WARNING)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found that keeps the model from running; warnings do not count."""
        return not self.errors

    @property
    def is_strictly_clean(self) -> bool:
        """Whether there is neither an error nor a warning, as with ``--strict``."""
        return not self.errors and not self.warnings

    def raise_for_findings(self, *, strict: bool = False) -> None:
        """Raise if the map is not clean.

        Parameters
        ----------
        strict
            Whether warnings count too.

        Raises
        ------
        DeviceMapError
            With one line for each finding: its code, where it is and what is wrong.  The findings
            are its ``findings``.

        Examples
        --------
        In a test suite::

            devplan.check("Qwen/Qwen2.5-VL-7B-Instruct", "maps/qwen.yaml").raise_for_findings()
        """
        found = (*self.errors, *self.warnings) if strict else self.errors
        if found:
            lines = [f"{self.map_name} does not fit {self.model}:"]
            lines += [f"{finding.code} {finding.where}: {finding.message}" for finding in found]
            raise DeviceMapError("\n  ".join(lines), findings=found)

    def __repr__(self) -> str:
        """The outcome in one line; the parts are attributes, of up to a megabyte."""
        counts = f"{len(self.errors)} errors, {len(self.warnings)} warnings"
        return f"CheckResult({self.map_name!r}, {self.model!r}: {counts}, {len(self.runs)} runs)"
