"""Text of a map file to `DeviceMapFile`, or one line that says where it is wrong.

PyYAML's safe constructor alone is not enough: it keeps no line numbers, accepts a repeated key
without a word, and converts unquoted module names such as ``on`` or ``1.0`` to other types.  So
the text is composed to nodes, which know their lines, and every node is checked against its shape
in the table of keys.  Only the tags of plain YAML data are known; a tag that would construct an
object is refused like any other wrong type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import singledispatch
from pathlib import Path
from typing import Any, NoReturn

import yaml

from devplan.core import DeviceMapFile, InputError, accepts, nearest
from devplan.core import path as path_to_file
from devplan.io import MAP, compose, read_text
from devplan.mapfile.consistency import check_consistency
from devplan.mapfile.document import from_document
from devplan.mapfile.keys import MAP_FILE, SCHEMA_VERSION
from devplan.mapfile.shape import (
    Coded,
    Either,
    ListOf,
    Nullable,
    Number,
    Optional,
    Record,
    Shape,
    TableOf,
    Text,
    Whole,
)

KeyPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_WORDS = {
    "null": "nothing (null)",
    "map": "a mapping",
    "seq": "a list",
    "timestamp": "a date",
    "bool": "the truth value",
    "int": "the number",
    "float": "the number",
    "str": "the text",
}
# The constructor is used for its scalar rules only, never for a document.
_SCALARS = yaml.constructor.SafeConstructor()


@dataclass(frozen=True, kw_only=True)
class Location:
    """A place in a file, by the keys and indices that lead to it."""

    file: str
    path: KeyPath = ()
    lines: dict[KeyPath, int] = field(default_factory=dict)
    """Line of every value that was read, by its path; shared by all locations of a file."""

    def inside(self, step: str | int, node: yaml.Node) -> Location:
        location = replace(self, path=(*self.path, step))
        self.lines[location.path] = node.start_mark.line + 1
        return location

    @property
    def words(self) -> str:
        steps = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in self.path)
        return steps.removeprefix(".") or "the map file"

    def refuse(self, line: int, message: str) -> NoReturn:
        raise InputError(f"{self.file}:{line}: {message}")

    def refuse_value(self, path: KeyPath, message: str) -> NoReturn:
        """Refuse a value that was read."""
        self.refuse(self.lines[path], message)


@accepts(path=path_to_file("the path of a map file"))
def read_map(path: str | Path) -> DeviceMapFile:
    """The map in a file.

    Raises
    ------
    InputError
        When the file cannot be read or is no map; one line with file, line and remedy.
    """
    return loads_map(read_text(path, MAP), str(path))


def loads_map(text: str, name: str) -> DeviceMapFile:
    """The map in a text; messages begin with `name` and the line."""
    return map_of_node(compose_document(text, name), name)


def compose_document(text: str, file: str) -> yaml.Node:
    """The one document of a text; an `InputError` where there is none, or it exceeds a bound."""
    node = compose(text, file)
    if node is None:
        raise InputError(f"{file}:1: empty; `devplan suggest` writes map files")
    return node


def map_of_node(node: yaml.Node, name: str) -> DeviceMapFile:
    """The map in a text that is already composed."""
    location = Location(file=name)
    _refuse_other_versions(node, location)
    document = read_node(MAP_FILE, node, location)
    check_consistency(document, location.refuse_value)
    return from_document(document)


def _refuse_other_versions(node: yaml.Node, location: Location) -> None:
    """Name the version first: the keys of a later format would only look like mistakes."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    stated = next((value for key, value in pairs if key.value == "schema"), None)
    if stated is None or not str(stated.value).isdecimal():
        return
    # Nine digits are enough to compare; int() refuses thousands of them.
    if int(stated.value[:9]) > SCHEMA_VERSION:
        location.refuse(
            stated.start_mark.line + 1,
            f"schema {stated.value[:9]} is of a later devplan, this one reads {SCHEMA_VERSION}; "
            "update devplan",
        )


@singledispatch
def read_node(shape: Shape, node: yaml.Node, location: Location) -> Any:
    """The plain value of a node, or an `InputError` that names what its shape expects."""
    raise AssertionError(f"no reader for {shape!r}")


@read_node.register
def _(shape: Record, node: yaml.Node, location: Location) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        _refuse_type(node, location, f"a mapping with {_listing([k.name for k in shape.keys])}")
    known = {key.name: key.shape for key in shape.keys}
    values = {}
    for name, key_node, value_node in _pairs(node, location):
        if name not in known:
            near = nearest(key_node.value, known) or f"; known: {', '.join(known)}"
            location.refuse(
                _line(key_node), f"unknown key {key_node.value!r} in {location.words}{near}"
            )
        values[name] = read_node(known[name], value_node, location.inside(name, key_node))
    optional = {name for name, inner in known.items() if isinstance(inner, Optional)}
    missing = [name for name in known if name not in values and name not in optional]
    if missing:
        location.refuse(
            _line(node),
            f"{location.words} lacks the key {missing[0]!r}; add it, or renew the file with "
            "`devplan suggest --force`",
        )
    return {name: values.get(name) for name in known}


@read_node.register
def _(shape: Optional | Coded, node: yaml.Node, location: Location) -> Any:
    return read_node(shape.inner, node, location)


@read_node.register
def _(shape: TableOf, node: yaml.Node, location: Location) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        _refuse_type(node, location, f"a mapping from {shape.key.expected}")
    if len(node.value) < shape.min_entries:
        location.refuse(_line(node), f"{location.words} is empty; it needs at least one entry")
    values = {}
    for name, key_node, value_node in _pairs(node, location):
        if not isinstance(name, str):
            location.refuse(
                _line(key_node),
                f"{location.words} has the key {_describe(key_node)}; write it in quotes: "
                f"'{key_node.value}'",
            )
        read_node(shape.key, key_node, location)
        values[name] = read_node(shape.value, value_node, location.inside(name, key_node))
    return values


@read_node.register
def _(shape: ListOf, node: yaml.Node, location: Location) -> list[Any]:
    if not isinstance(node, yaml.SequenceNode):
        _refuse_type(node, location, "a list")
    if len(node.value) < shape.min_items:
        location.refuse(_line(node), f"{location.words} is empty; it needs at least one item")
    items = enumerate(node.value)
    return [read_node(shape.item, item, location.inside(index, item)) for index, item in items]


@read_node.register
def _(shape: Nullable, node: yaml.Node, location: Location) -> Any:
    return None if _kind(node) == "null" else read_node(shape.inner, node, location)


@read_node.register
def _(shape: Either, node: yaml.Node, location: Location) -> Any:
    for option in shape.options:
        try:
            return read_node(option, node, location)
        except InputError:
            continue
    _refuse_type(node, location, shape.expected)


@read_node.register
def _(shape: Text, node: yaml.Node, location: Location) -> str:
    value = _scalar(node, location)
    if not isinstance(value, str):
        hint = f"; write it in quotes: '{node.value}'" if _is_plain(node) else ""
        _refuse_type(node, location, shape.expected, hint)
    if shape.choices and value not in shape.choices:
        _refuse_type(node, location, shape.expected, nearest(value, shape.choices))
    if shape.pattern and not re.fullmatch(shape.pattern, value):
        _refuse_type(node, location, shape.expected)
    return value


@read_node.register
def _(shape: Whole, node: yaml.Node, location: Location) -> int:
    value = _scalar(node, location)
    if not isinstance(value, int) or isinstance(value, bool):
        _refuse_type(node, location, "an integer")
    if shape.minimum is not None and value < shape.minimum:
        _refuse_type(node, location, f"an integer of at least {shape.minimum}")
    if shape.maximum is not None and value > shape.maximum:
        _refuse_type(node, location, f"an integer of at most {shape.maximum}")
    return value


@read_node.register
def _(shape: Number, node: yaml.Node, location: Location) -> float:
    value = _scalar(node, location)
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
        _refuse_type(node, location, "a number")
    if not shape.minimum <= value <= shape.maximum:
        _refuse_type(node, location, f"a number from {shape.minimum:g} to {shape.maximum:g}")
    return value


def _pairs(
    node: yaml.MappingNode, location: Location
) -> Iterator[tuple[Any, yaml.Node, yaml.Node]]:
    """Key, its node and the value's node of a mapping without repeated keys."""
    first_lines: dict[Any, int] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            location.refuse(_line(key_node), f"a key in {location.words} is {_describe(key_node)}")
        name = _scalar(key_node, location)
        if name in first_lines:
            location.refuse(
                _line(key_node),
                f"the key {name!r} stands in {location.words} twice, first on line "
                f"{first_lines[name]}; remove one",
            )
        first_lines[name] = _line(key_node)
        yield name, key_node, value_node


def _scalar(node: yaml.Node, location: Location) -> Any:
    """The value of a scalar as `yaml.safe_load` reads it; the node itself where it is none."""
    if not isinstance(node, yaml.ScalarNode):
        return node
    if _kind(node) not in ("null", "bool", "int", "float", "str"):
        return node
    try:
        return _SCALARS.construct_object(node)
    # PyYAML raises a KeyError or an IndexError too where the text does not fit its tag.
    except Exception:
        location.refuse(_line(node), f"{node.value!r} cannot be read as {_kind(node)}")


def _refuse_type(node: yaml.Node, location: Location, expected: str, hint: str = "") -> NoReturn:
    location.refuse(
        _line(node), f"{location.words} is {_describe(node)}, expected {expected}{hint}"
    )


def _describe(node: yaml.Node) -> str:
    word = _WORDS.get(_kind(node), f"of the tag {node.tag}")
    is_value = isinstance(node, yaml.ScalarNode) and _kind(node) in ("bool", "int", "float", "str")
    return f"{word} {node.value!r}" if is_value else word


def _is_plain(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.style and node.value != ""


def _kind(node: yaml.Node) -> str:
    return node.tag.removeprefix(_TAG)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _listing(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
