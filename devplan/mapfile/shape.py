"""Words in which the map file is described.

The table in `devplan.mapfile.keys` describes the whole file in these words.  Everything else is
derived from it and can therefore not differ: the reader of YAML (`devplan.mapfile.read`), both
directions between objects and plain values (`devplan.mapfile.document`), the published JSON
Schema and the reference page (`tools.map_file_pages`).

What a shape refuses is no more than JSON Schema can express: types, ranges, patterns, required
and unknown keys.  Rules that tie two values together (sums, devices that the machine has) are
checked by `devplan.mapfile.consistency`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from devplan.core import DEVICE_PATTERN


@dataclass(frozen=True)
class Text:
    """A string."""

    expected: str = "text"
    """In words, for messages and the reference: ``a device such as cuda:0``."""
    pattern: str | None = None
    """Regular expression of the whole text, anchored, that Python and ECMA 262 read alike."""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Whole:
    """An integer; true and false are none."""

    minimum: int | None = 0
    maximum: int | None = None


@dataclass(frozen=True)
class Number:
    """A finite integer or decimal number."""

    minimum: float = 0.0
    maximum: float = 1e12
    """Far above any share of a card; keeps infinity out, which JSON cannot write."""


@dataclass(frozen=True)
class Nullable:
    """The inner shape, or ``null``: not known, or as the model says."""

    inner: Shape


@dataclass(frozen=True)
class Optional:
    """The inner shape; a record may lack the key, which then holds None.

    It is not written where the value is None, empty text or an empty list or mapping.
    """

    inner: Shape


@dataclass(frozen=True)
class Either:
    """Whatever one of the options takes."""

    options: tuple[Shape, ...]
    expected: str


@dataclass(frozen=True)
class ListOf:
    """A list of one kind of item; a tuple in Python."""

    item: Shape
    min_items: int = 0


@dataclass(frozen=True)
class TableOf:
    """A mapping whose keys are data: names of modules, devices, libraries."""

    key: Text
    value: Shape
    min_entries: int = 0
    key_field: str = ""
    """In Python, a tuple of objects with this attribute, which is the key; empty: a mapping."""


@dataclass(frozen=True)
class Coded:
    """A value that has another form in Python: ``1080x1920`` is a pair of integers."""

    inner: Shape
    """The form in the file."""
    encode: Callable[[Any], Any]
    """Python's form to that of the file."""
    decode: Callable[[Any], Any]


@dataclass(frozen=True)
class Key:
    """One key of a record."""

    name: str
    shape: Shape
    meaning: str
    field: str = ""
    """Attribute of the object that holds the value; empty: it has the name of the key."""
    derived: bool = False
    """Whether the value follows from others: written for readers of the file, and left out when
    the object is made from it."""


@dataclass(frozen=True)
class Record:
    """A mapping with exactly these keys, all but the `Optional` ones required."""

    keys: tuple[Key, ...]
    build: Callable[..., Any]
    """Makes Python's object from the fields; ``dict`` where it is a mapping of them."""
    values: Callable[[Any], Mapping[str, Any]] | None = None
    """The fields of an object, where they are not just its attributes."""


Shape: TypeAlias = (
    Text | Whole | Number | Nullable | Optional | Either | ListOf | TableOf | Coded | Record
)

# ------------------------------------------------------------------------ kinds of many values

TEXT = Text()
TEXT_OR_NULL = Nullable(TEXT)
WHOLE = Whole()
BYTES = WHOLE
SECONDS = Number()
DEVICE = Text(expected="a device such as cuda:0, cpu or disk", pattern=DEVICE_PATTERN)
MODULE = Text(
    expected='a dotted module name, "" for the whole model', pattern=r"^([^.\s]+(\.[^.\s]+)*)?$"
)
LIBRARY = Text(expected="the name of a library")


def record(
    build: Callable[..., Any], *keys: Key, values: Callable[[Any], Mapping[str, Any]] | None = None
) -> Record:
    """A record of these keys."""
    return Record(keys, build, values)


def choice(*choices: str) -> Text:
    """One of these words."""
    *others, last = choices
    return Text(expected=f"{', '.join(others)} or {last}" if others else last, choices=choices)


def optional_word(word: str) -> Optional:
    """A word that is there or absent: True or False in Python."""
    return Optional(
        Coded(choice(word), encode=lambda is_on: word if is_on else "", decode=word.__eq__)
    )
