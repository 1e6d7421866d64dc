"""YAML nodes in, plain values out, every one checked against the table of keys.

PyYAML's safe constructor alone says too little: it keeps no line numbers, takes a repeated key
without a word, and turns unquoted module names such as ``on`` or ``1.0`` into other things.  So
the text is composed to nodes, which know their lines, and the shapes are walked beside them.
Only the tags of plain YAML data are known; a tag that would construct an object is refused like
any other wrong type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import singledispatch
from typing import Any, NoReturn

import yaml

from devplan.core import InputError, nearest
from devplan.mapfile.shape import (
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

Path = tuple[str | int, ...]

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
class Place:
    """Where in which file the walk stands."""

    file: str
    path: Path = ()
    lines: dict[Path, int] = field(default_factory=dict)
    """Line of every value that was read, by its path; shared by all places of a file."""

    def inside(self, step: str | int, node: yaml.Node) -> Place:
        place = replace(self, path=(*self.path, step))
        self.lines[place.path] = node.start_mark.line + 1
        return place

    @property
    def words(self) -> str:
        steps = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in self.path)
        return steps.removeprefix(".") or "the map file"

    def refuse(self, line: int, message: str) -> NoReturn:
        raise InputError(f"{self.file}:{line}: {message}")


@singledispatch
def read(shape: Shape, node: yaml.Node, place: Place) -> Any:
    """The plain value of a node that has the given shape.

    Raises
    ------
    InputError
        With file, line, what stands there and what is expected, when it has not.
    """
    raise AssertionError(f"no reader for {shape!r}")


@read.register
def _(shape: Record, node: yaml.Node, place: Place) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        _refuse_type(node, place, f"a mapping with {_listing([k.name for k in shape.keys])}")
    known = {key.name: key.shape for key in shape.keys}
    values = {}
    for name, key_node, value_node in _pairs(node, place):
        if name not in known:
            near = nearest(key_node.value, known) or f"; known: {', '.join(known)}"
            place.refuse(_line(key_node), f"unknown key {key_node.value!r} in {place.words}{near}")
        values[name] = read(known[name], value_node, place.inside(name, key_node))
    optional = {name for name, inner in known.items() if isinstance(inner, Optional)}
    missing = [name for name in known if name not in values and name not in optional]
    if missing:
        place.refuse(
            _line(node),
            f"{place.words} lacks the key {missing[0]!r}; add it, or renew the file with "
            "`devplan suggest --force`",
        )
    return {name: values.get(name) for name in known}


@read.register
def _(shape: Optional, node: yaml.Node, place: Place) -> Any:
    return read(shape.inner, node, place)


@read.register
def _(shape: TableOf, node: yaml.Node, place: Place) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        _refuse_type(node, place, f"a mapping from {shape.key.expected}")
    if len(node.value) < shape.min_entries:
        place.refuse(_line(node), f"{place.words} is empty; it needs at least one entry")
    values = {}
    for name, key_node, value_node in _pairs(node, place):
        if not isinstance(name, str):
            place.refuse(
                _line(key_node),
                f"{place.words} has the key {_describe(key_node)}; write it in quotes: "
                f"'{key_node.value}'",
            )
        read(shape.key, key_node, place)
        values[name] = read(shape.value, value_node, place.inside(name, key_node))
    return values


@read.register
def _(shape: ListOf, node: yaml.Node, place: Place) -> list[Any]:
    if not isinstance(node, yaml.SequenceNode):
        _refuse_type(node, place, "a list")
    if len(node.value) < shape.min_items:
        place.refuse(_line(node), f"{place.words} is empty; it needs at least one item")
    items = enumerate(node.value)
    return [read(shape.item, item, place.inside(index, item)) for index, item in items]


@read.register
def _(shape: Nullable, node: yaml.Node, place: Place) -> Any:
    return None if _kind(node) == "null" else read(shape.inner, node, place)


@read.register
def _(shape: Either, node: yaml.Node, place: Place) -> Any:
    for option in shape.options:
        try:
            return read(option, node, place)
        except InputError:
            continue
    _refuse_type(node, place, shape.expected)


@read.register
def _(shape: Text, node: yaml.Node, place: Place) -> str:
    value = _scalar(node, place)
    if not isinstance(value, str):
        hint = f"; write it in quotes: '{node.value}'" if _is_plain(node) else ""
        _refuse_type(node, place, shape.expected, hint)
    if shape.choices and value not in shape.choices:
        _refuse_type(node, place, shape.expected, nearest(value, shape.choices))
    if shape.pattern and not re.fullmatch(shape.pattern, value):
        _refuse_type(node, place, shape.expected)
    return value


@read.register
def _(shape: Whole, node: yaml.Node, place: Place) -> int:
    value = _scalar(node, place)
    if not isinstance(value, int) or isinstance(value, bool):
        _refuse_type(node, place, "an integer")
    if shape.minimum is not None and value < shape.minimum:
        _refuse_type(node, place, f"an integer of at least {shape.minimum}")
    if shape.maximum is not None and value > shape.maximum:
        _refuse_type(node, place, f"an integer of at most {shape.maximum}")
    return value


@read.register
def _(shape: Number, node: yaml.Node, place: Place) -> float:
    value = _scalar(node, place)
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
        _refuse_type(node, place, "a number")
    if not shape.minimum <= value <= shape.maximum:
        _refuse_type(node, place, f"a number from {shape.minimum:g} to {shape.maximum:g}")
    return value


def _pairs(node: yaml.MappingNode, place: Place) -> Iterator[tuple[Any, yaml.Node, yaml.Node]]:
    """Key, its node and the value's node of a mapping without repeated keys."""
    first_lines: dict[Any, int] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            place.refuse(_line(key_node), f"a key in {place.words} is {_describe(key_node)}")
        name = _scalar(key_node, place)
        if name in first_lines:
            place.refuse(
                _line(key_node),
                f"the key {name!r} stands in {place.words} twice, first on line "
                f"{first_lines[name]}; remove one",
            )
        first_lines[name] = _line(key_node)
        yield name, key_node, value_node


def _scalar(node: yaml.Node, place: Place) -> Any:
    """What `yaml.safe_load` makes of a scalar; the node itself when it is none."""
    if not isinstance(node, yaml.ScalarNode):
        return node
    if _kind(node) not in ("null", "bool", "int", "float", "str"):
        return node
    try:
        return _SCALARS.construct_object(node)
    # [PyYAML] a tag that the text does not fit raises a KeyError or an IndexError too.
    except Exception:
        place.refuse(_line(node), f"{node.value!r} cannot be read as {_kind(node)}")


def _refuse_type(node: yaml.Node, place: Place, expected: str, hint: str = "") -> NoReturn:
    place.refuse(_line(node), f"{place.words} is {_describe(node)}, expected {expected}{hint}")


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
