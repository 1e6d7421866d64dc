"""What came of one type: plain values, kept as a line of JSON between runs.

A row says how far the type got.  `Outcome` follows from it, never the other way round, so that the
meaning of the words is in one place.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """What the table says of a type."""

    CLEAN = "ran clean"
    MISMATCH = "ran, mismatch found"
    NOT_RUNNABLE = "not runnable"
    NO_FORWARD = "no forward of its own"


class Stage(StrEnum):
    """How far an attempt got; the order is that of the way."""

    BUILD = "build"
    """The class could not be built from its default configuration."""
    PACKAGE = "package"
    """The class needs a package that is not installed."""
    NO_FORWARD = "no forward"
    """The class has no ``forward``: it is a holder of models that ``generate`` calls."""
    MAPS = "maps"
    INPUTS = "inputs"
    """No example inputs could be made."""
    RUN = "run"
    """The model's own code raised, or the run did not come to its end."""
    TIME = "time"
    MEMORY = "memory"
    RAN = "ran"


@dataclass(frozen=True, kw_only=True, order=True)
class FoundMismatch:
    """A mismatch at one line of code, in one of a type's maps."""

    file: str
    """From the package on, as in ``transformers/models/bert/modeling_bert.py``; empty where only
    library code was on the stack."""
    line: int
    op: str
    code: str
    """``DP301``."""
    module: str
    text: str
    """The line of code."""
    message: str
    """As ``devplan check`` prints it."""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class MapRow:
    """One split run."""

    name: str
    """``planned`` or ``auto``."""
    num_devices: int
    """Cards that the map uses: a model of a single block stays on one."""
    phases: tuple[str, ...]
    """Phases that ran to their end."""
    error: str = ""
    """Why the run has no end; empty where it has one."""
    findings: tuple[FoundMismatch, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One type."""

    model_type: str
    class_name: str
    stage: Stage
    changed: tuple[str, ...] = ()
    """How the attempt differs from the default, in words: ``in float32``, ``with 4 layers``."""
    reason: str = ""
    """Why it got no further; of one that ran otherwise, why it did not run by default."""
    inputs: str = ""
    maps: tuple[MapRow, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    generated: bool = False
    """Whether ``generate`` was called."""

    @property
    def outcome(self) -> Outcome:
        if self.stage is Stage.NO_FORWARD:
            return Outcome.NO_FORWARD
        if self.stage is not Stage.RAN:
            return Outcome.NOT_RUNNABLE
        return Outcome.MISMATCH if self.findings else Outcome.CLEAN

    @property
    def findings(self) -> tuple[tuple[str, FoundMismatch], ...]:
        """(map, finding) of all its runs."""
        return tuple((item.name, one) for item in self.maps for one in item.findings)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def row_of(content: dict[str, Any]) -> Row:
    """A row as `Row.to_json` wrote it."""
    maps = tuple(
        MapRow(
            **{
                **item,
                "phases": tuple(item["phases"]),
                "findings": tuple(FoundMismatch(**one) for one in item["findings"]),
            }
        )
        for item in content["maps"]
    )
    lists = {name: tuple(content[name]) for name in ("changed", "notes")}
    return Row(**{**content, **lists, "stage": Stage(content["stage"]), "maps": maps})
