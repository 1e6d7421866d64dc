"""Text that others wrote, made fit to be shown: the only place that knows what may reach a reader.

Names in a map, versions, classes, ids, names of files and messages of libraries are written by
strangers.  What a terminal, a log of CI or a reader's eye would take for something else than text
(escape sequences, marks that turn the direction of writing, characters that nobody sees, words that
GitHub or Azure take for commands) is written as Python would write it: ``\\x1b``, ``\\u202e``.

===============  =========================================================================
`visible`        one name or value: escaped, one line, at most `LONGEST` characters
`prose`          a sentence with such names in it: the same for every word, and bounded
`shown`          a whole record: every text in it made visible
`printed`        what goes to a stream, as the last step: escaped line by line
`json_text`      a document as JSON, in which the same characters are JSON's own escapes
`python_text`    a literal of Python, which gives back exactly the text
===============  =========================================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import PurePath
from typing import Any, TypeVar

LONGEST = 200
"""Characters of one name or value that people are shown."""
LONGEST_PROSE = 2_000
"""Characters of one sentence or paragraph."""
LONGEST_IN_JSON = 10_000
"""Characters of one text in JSON, for programs."""
_TAIL = 60
"""Characters of the end that are kept of a text that is too long."""

_UNSEEN = frozenset([0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0]).union(
    range(0x180B, 0x1810), range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)
)
"""Characters that count as letters or marks and show nothing (Default_Ignorable_Code_Point)."""
_COMMAND = re.compile(r"^(\s*):(?=:)", re.MULTILINE)
"""A workflow command of GitHub's, which stands at the beginning of a line, blanks aside."""
_OLD_COMMAND = re.compile(r"#(?=#(?:\[|vso\[|teamcity\[))")
"""The older form, and those of Azure Pipelines and TeamCity, which may stand anywhere."""
_BREAKS = re.compile(r"[^\S ]")
_LONG_WORD = re.compile(rf"\S{{{LONGEST + 1},}}")

Value = TypeVar("Value")


def is_seen(char: str) -> bool:
    """Whether a character shows what it is, and nothing else happens."""
    return char.isprintable() and ord(char) not in _UNSEEN


class _Escapes(dict[int, str]):
    """Code point -> what stands for it; for ``str.translate``."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        self[code] = char if is_seen(char) else self.escape(code)
        return self[code]

    def escape(self, code: int) -> str:
        short = {0x09: r"\t", 0x0A: r"\n", 0x0D: r"\r"}
        if code in short:
            return short[code]
        if code < 0x100:
            return f"\\x{code:02x}"
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class _JsonEscapes(_Escapes):
    def escape(self, code: int) -> str:
        if code < 0x10000:
            return f"\\u{code:04x}"
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


_ESCAPES = _Escapes()
_IN_LINES = _Escapes({0x0A: "\n"})
_IN_JSON = _JsonEscapes({0x0A: "\n"})


def visible(text: str, limit: int = LONGEST) -> str:
    """One name or value for a reader: escaped, on one line, the middle left out where it is long.

    Examples
    --------
    >>> print(visible("model\\n\\x1b[31m"))
    model\\n\\x1b[31m
    """
    return shortened(shortened(text, limit).translate(_ESCAPES), limit)


def shortened(text: str, limit: int = LONGEST) -> str:
    """The text, or its beginning and end with the number of characters between them."""
    if len(text) <= limit:
        return text
    tail = min(_TAIL, limit // 4)
    head = limit - tail - 30  # the words between take up to 30
    return f"{text[:head]}...[{len(text) - head - tail:,} characters]...{text[-tail:]}"


def prose(text: str) -> str:
    """A sentence that holds strangers' words: on one line, escaped, bounded, as is each word."""
    if _BREAKS.search(text):
        text = " ".join(text.split())
    text = _LONG_WORD.sub(lambda word: shortened(word[0]), text)
    return visible(text, LONGEST_PROSE)


def shown(value: Value) -> Value:
    """A record with every text in it visible; paths and what is not text stay as they are."""
    if isinstance(value, str) and not isinstance(value, Enum):
        return prose(value) if " " in value else visible(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _shown_record(value)
    if isinstance(value, tuple | list | frozenset) and not hasattr(value, "_fields"):
        return type(value)(shown(each) for each in value)
    if isinstance(value, Mapping):
        return {shown(key): shown(each) for key, each in value.items()}
    return value


def _shown_record(record: Any) -> Any:
    changed = {}
    for field in fields(record):
        before = getattr(record, field.name)
        after = shown(before)
        if field.init and (after is not before) and after != before:
            changed[field.name] = after
    return replace(record, **changed) if changed else record


def printed(text: str, *, styles: tuple[str, ...] = (), commands: bool = False) -> str:
    """What goes to a stream: nothing in it but text, line breaks, and devplan's own `styles`.

    Parameters
    ----------
    text
        Lines.
    styles
        Escape sequences that are devplan's own, on a terminal that shows them.
    commands
        Whether the text is commands for GitHub, which devplan wrote.
    """
    if not commands:
        text = _COMMAND.sub(r"\1\\x3a", text)
    text = _OLD_COMMAND.sub(r"\\x23", text)
    if not styles:
        return text.translate(_IN_LINES)
    either = re.compile("|".join(map(re.escape, styles)))
    parts, start = [], 0
    for style in either.finditer(text):
        parts += [text[start : style.start()].translate(_IN_LINES), style[0]]
        start = style.end()
    return "".join([*parts, text[start:].translate(_IN_LINES)])


def json_text(document: Any, *, indent: int | None = 2, **options: Any) -> str:
    """A document as JSON: other alphabets as they are, what cannot be seen as JSON's escapes."""
    text = json.dumps(_bounded(document), indent=indent, ensure_ascii=False, **options)
    text = text.translate(_IN_JSON)
    return _OLD_COMMAND.sub(r"\\u0023", text) + "\n"


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        return shortened(value, LONGEST_IN_JSON)
    if isinstance(value, Mapping):
        return {_bounded(key): _bounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_bounded(each) for each in value]
    return value.as_posix() if isinstance(value, PurePath) else value


def python_text(text: str) -> str:
    """A literal of Python in double quotes that gives back exactly the text."""
    return in_quotes(json.dumps(text, ensure_ascii=False))


def needs_quotes(text: str) -> bool:
    """Whether a text must be written in double quotes, in YAML, so that `in_quotes` can escape."""
    return "::" in text or not all(map(is_seen, text)) or bool(_OLD_COMMAND.search(text))


def in_quotes(text: str) -> str:
    """Python or YAML in which all that needs escapes is inside of double quotes, with escapes."""
    return _OLD_COMMAND.sub(r"\\x23", text.translate(_IN_LINES).replace("::", r"\x3a:"))
