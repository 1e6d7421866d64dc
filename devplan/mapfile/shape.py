"""Words in which the map file is described.

The table in `devplan.mapfile.keys` says in these words what a file holds.  Three things are made
of it and can therefore not drift apart: the reader (`devplan.mapfile.nodes`), the published
JSON Schema (`devplan.mapfile.json_schema`) and the reference page (`tools.map_file_reference`).

The words say no more than JSON Schema can: types, ranges, patterns, required and unknown keys.
What ties two values together (sums, devices that the machine has) is checked by
`devplan.mapfile.consistency`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, kw_only=True)
class Text:
    """A string."""

    expected: str = "text"
    """In words, for messages and the reference: ``a device such as cuda:0``."""
    pattern: str | None = None
    """Regular expression of the whole text, anchored, that Python and ECMA 262 read alike."""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Whole:
    """An integer; true and false are none."""

    minimum: int | None = 0
    maximum: int | None = None


@dataclass(frozen=True, kw_only=True)
class Number:
    """A finite integer or decimal number."""

    minimum: float = 0.0
    maximum: float = 1e12
    """Far above any share of a card; keeps infinity out, which JSON cannot write."""


@dataclass(frozen=True, kw_only=True)
class Nullable:
    """The inner shape, or ``null``: not known, or as the model says."""

    inner: Shape


@dataclass(frozen=True, kw_only=True)
class Optional:
    """The inner shape; a record may lack the key, which then holds None."""

    inner: Shape


@dataclass(frozen=True, kw_only=True)
class Either:
    """Whatever one of the options takes."""

    options: tuple[Shape, ...]
    expected: str


@dataclass(frozen=True, kw_only=True)
class ListOf:
    """A list of one kind of item."""

    item: Shape
    min_items: int = 0


@dataclass(frozen=True, kw_only=True)
class TableOf:
    """A mapping whose keys are data: names of modules, devices, libraries."""

    key: Text
    value: Shape
    min_entries: int = 0


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of a record."""

    name: str
    meaning: str
    shape: Shape


@dataclass(frozen=True, kw_only=True)
class Record:
    """A mapping with exactly these keys, all but the `Optional` ones required."""

    keys: tuple[Key, ...]


Shape: TypeAlias = Text | Whole | Number | Nullable | Optional | Either | ListOf | TableOf | Record
