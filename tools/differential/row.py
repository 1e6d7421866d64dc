"""What came of one type: plain values, kept as a line of JSON between runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Stage(StrEnum):
    """How far a type got; the order is that of the way."""

    BUILD = "build"
    """No small model of the class runs whole."""
    SAVE = "save"
    """The class does not save itself, or not so that it can be loaded."""
    INPUTS = "inputs"
    """devplan makes no inputs that the model takes with values."""
    MAPS = "maps"
    """No map could be made, or the check raised."""
    TIME = "time"
    MEMORY = "memory"
    RAN = "ran"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What stopped a model, or would."""

    what: str
    """Type and message of an exception; code and message of a finding."""
    place: str = ""
    """``transformers/models/bert/modeling_bert.py:7``; empty where no line of a model's code is
    known."""
    stack: tuple[str, ...] = ()
    """Lines of the model's code that led there, outermost first; of a finding, the other lines at
    which the same mistake shows."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of loading by a map, and what came of it."""

    refused: str = ""
    """What loading raised; empty where it loaded."""
    failures: Mapping[str, Failure] = field(default_factory=dict)
    """Call -> what it raised."""
    others: tuple[str, ...] = ()
    """Calls that gave something else than the unsplit model."""


@dataclass(frozen=True, kw_only=True)
class MapRow:
    """One map: what the check says of it, and what it does."""

    name: str
    num_blocks: Mapping[str, int]
    """Device -> blocks of the model on it."""
    said: tuple[Failure, ...] = ()
    """Errors of the check."""
    not_run: str = ""
    """Why the check did not run it."""
    ways: Mapping[str, Way] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One type."""

    model_type: str
    class_name: str
    stage: Stage
    reason: str = ""
    """Why it got no further."""
    size: str = ""
    """How small it was made."""
    calls: tuple[str, ...] = ()
    """Calls that the unsplit model took."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Call -> why it did not."""
    maps: tuple[MapRow, ...] = ()
    seconds: float = 0.0
    commit: str = ""
    """Of devplan, at which it was measured."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def row_of(content: dict[str, Any]) -> Row:
    """A row as `Row.to_json` wrote it."""
    maps = tuple(
        MapRow(
            **{
                **item,
                "said": tuple(map(_failure, item["said"])),
                "ways": {name: _way(way) for name, way in item["ways"].items()},
            }
        )
        for item in content["maps"]
    )
    return Row(
        **{
            **content,
            "stage": Stage(content["stage"]),
            "calls": tuple(content["calls"]),
            "maps": maps,
        }
    )


def _way(content: dict[str, Any]) -> Way:
    failures = {name: _failure(each) for name, each in content["failures"].items()}
    return Way(refused=content["refused"], failures=failures, others=tuple(content["others"]))


def _failure(content: dict[str, Any]) -> Failure:
    return Failure(**{**content, "stack": tuple(content["stack"])})
