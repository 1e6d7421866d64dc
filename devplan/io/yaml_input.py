"""YAML of a file that was given: text to nodes, which know their lines, and nodes to values."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import yaml

from devplan.core import InputError

MOST_LEVELS = 100
"""Mappings and lists inside one another; a map has up to six."""
MOST_VALUES = 100_000
"""Names and values, each alias as often as it is used; the largest map has 6,000."""
MOST_DIGITS = 100
"""Of a number."""
_MOST_READ_TWICE = 2**17
"""Characters up to which a text that is refused is read again for a better message."""

_LONGEST_NAME = 1024
"""Characters of a name before its colon, by YAML's own rule ("implicit keys")."""
_LONG_NAME = re.compile(rf"""(?:^|[\s'"{{,])([^'"\s:]{{{_LONGEST_NAME},}})['"]?[ \t]*:""")

_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})


class _BeyondBound(Exception):
    """What is too many, with the line."""

    def __init__(self, line: int, said: str) -> None:
        super().__init__(said)
        self.line = line


def compose(text: str, file: str) -> yaml.Node | None:
    """The one document of a text; None where it is empty.

    Raises
    ------
    InputError
        When the text is no YAML, holds several documents, or exceeds a bound.
    """
    try:
        node = _composed(text)
    except yaml.MarkedYAMLError as error:
        if long := _LONG_NAME.search(text):
            line = text.count("\n", 0, long.start(1)) + 1
            raise InputError(
                f"{file}:{line}: a name of {len(long[1]):,} characters, and YAML takes names of up "
                f"to {_LONGEST_NAME:,}"
            ) from None
        mark = error.problem_mark or error.context_mark
        problem = " ".join((error.problem or error.context or "cannot be read").split())
        raise InputError(f"{file}:{mark.line + 1 if mark else 1}: not YAML: {problem}") from None
    except yaml.reader.ReaderError as error:
        character = error.character if isinstance(error.character, int) else ord(error.character)
        line = text.count("\n", 0, error.position) + 1
        raise InputError(
            f"{file}:{line}: the character U+{character:04X} is not allowed in YAML"
        ) from None
    except _BeyondBound as error:
        raise InputError(f"{file}:{error.line}: {error}") from None
    except RecursionError:
        raise InputError(f"{file}:1: nested too deeply, more than {MOST_LEVELS} levels") from None
    except Exception as error:  # [PyYAML] it raises others where a directive or a tag is odd
        raise InputError(f"{file}:1: not YAML: {type(error).__name__}") from error
    return node


def load_yaml(text: str, file: str) -> Any:
    """The value of a text of plain YAML.

    Raises
    ------
    InputError
        As `compose` and `construct`.
    """
    node = compose(text, file)
    return None if node is None else construct(node, file)


def construct(node: yaml.Node, file: str) -> Any:
    """The value of a node: what ``yaml.safe_load`` makes of it.

    Raises
    ------
    InputError
        When a value is not what its tag or form says, such as a date that is none.
    """
    constructor = _Constructor()
    try:
        return constructor.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = (mark or node.start_mark).line + 1
        raise InputError(f"{file}:{line}: not YAML: {error.problem}") from error
    # [PyYAML] a date that is none is a ValueError, a truth value that is none a KeyError.
    except Exception as error:
        at = constructor.last or node
        shown = at.value if isinstance(at, yaml.ScalarNode) else "this"
        kind = at.tag.rpartition(":")[2]
        raise InputError(
            f"{file}:{at.start_mark.line + 1}: {shown[:60]!r} is no {kind}; correct it, or write "
            "it in quotes"
        ) from error


class _Constructor(yaml.constructor.SafeConstructor):
    """Plain values; knows the scalar that it was at."""

    last: yaml.ScalarNode | None = None

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode):
            self.last = node
        return super().construct_object(node, deep=deep)


class _Bounds:
    """Counts what a composer makes, and stops it."""

    values = 0
    levels = 0
    has_aliases = False

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        self.values += 1
        self.levels += 1
        event = self.peek_event()
        if self.values > MOST_VALUES:
            raise _BeyondBound(
                event.start_mark.line + 1, f"more than {MOST_VALUES:,} names and values"
            )
        if self.levels > MOST_LEVELS:
            raise _BeyondBound(
                event.start_mark.line + 1, f"nested too deeply, more than {MOST_LEVELS} levels"
            )
        if isinstance(event, yaml.AliasEvent):
            self.has_aliases = True
        node = super().compose_node(parent, index)
        self.levels -= 1
        if node.tag in _NUMBERS and len(node.value) > MOST_DIGITS:
            raise _BeyondBound(
                node.start_mark.line + 1,
                f"a number of {len(node.value)} digits, and devplan reads up to {MOST_DIGITS}",
            )
        return node


class _Careful(_Bounds, yaml.SafeLoader):
    """Events and nodes in Python, whose messages are the ones that people see."""


def _composed(text: str) -> yaml.Node | None:
    """By libyaml's parser where PyYAML was built with it, which is ten times as fast."""
    if _Fast is not None:
        if len(text) > _MOST_READ_TWICE:
            return _one_document(_Fast(text))
        with contextlib.suppress(yaml.YAMLError):
            return _one_document(_Fast(text))
    return _one_document(_Careful(text))


def _one_document(loader: Any) -> yaml.Node | None:
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    if node is not None and loader.has_aliases:
        _expanded(node, {}, set())
    return node


def _expanded(node: yaml.Node, known: dict[int, int], open_nodes: set[int]) -> int:
    """Values of a node with each alias written out."""
    if id(node) in known:
        return known[id(node)]
    if id(node) in open_nodes:
        raise _BeyondBound(node.start_mark.line + 1, "holds an alias of itself")
    open_nodes.add(id(node))
    values = 1
    if isinstance(node, yaml.CollectionNode):
        pairs = node.value if isinstance(node, yaml.MappingNode) else [(n,) for n in node.value]
        values += sum(_expanded(inner, known, open_nodes) for pair in pairs for inner in pair)
    open_nodes.discard(id(node))
    known[id(node)] = values
    if values > MOST_VALUES:
        raise _BeyondBound(
            node.start_mark.line + 1, f"more than {MOST_VALUES:,} names and values, by its aliases"
        )
    return values


def _fast_loader() -> type | None:
    if not yaml.__with_libyaml__:
        return None
    from yaml.composer import Composer
    from yaml.cyaml import CParser
    from yaml.resolver import Resolver

    class Fast(_Bounds, Composer, CParser, Resolver):
        """Events by libyaml, nodes in Python: there a bound can stop it."""

        def __init__(self, stream: str) -> None:
            CParser.__init__(self, stream)
            Composer.__init__(self)
            Resolver.__init__(self)

        def dispose(self) -> None:
            """libyaml's parser has nothing to give back."""

    return Fast


_Fast = _fast_loader()
