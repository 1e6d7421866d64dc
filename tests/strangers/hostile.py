"""Texts that strangers may write, and what must hold of everything that devplan prints."""

from __future__ import annotations

import re

from devplan.io.escaping import LONGEST, is_seen

HOSTILE = {
    "colour": "\x1b[31mred",
    "title": "\x1b]0;title\x07",
    "c1": "\x9b31mx",
    "carriage": "clean\rsecret",
    "backspace": "ab\b\bcd",
    "delete": "a\x7fb",
    "null": "a\0b",
    "override": "a\u202eb",
    "isolate": "a\u2066b\u2069",
    "mark": "a\u200fb\u061cc",
    "zero width": "a\u200bb\u2060c\ufeffd",
    "separators": "a\u2028::error::x\u2029::error::y",
    "next line": "a\x85::error::x",
    "surrogate": "a\ud800b",
    "tags": "a\U000e0041\U000e0042",
    "annotation": "a\ufff9b\ufffac\ufffb",
    "selectors": "a\ufe0f\U000e0100",
    "filler": "a\u3164b\u115fc",
    "command in a line": "a\n::stop-commands::t",
    "command": "::stop-commands::t",
    "command after blanks": "   ::add-mask::x",
    "command after a word": f"{'word ' * 30}::add-mask::x",
    "old command": "##[group]x",
    "azure": "##vso[task.setvariable]x",
    "markup": "[red]x[/red]",
    "percent": "%0A::error::x,file=y",
    "xml": "<b>&amp;]]>",
    "quotes": "a\"b'c\\d`e",
    "yaml": "a: b # c",
    "digits": "9" * 5_000,
    "long": "x" * 5_000,
    "words": "long words " * 500,
    "lines": "line\n" * 500,
    "code": '"); import os; os.abort()  #',
}
_ALONE = (
    *("null", "surrogate", "command in a line", "command", "command after blanks"),
    *("command after a word", "digits", "long", "words", "lines", "code"),
)
"""What works at the beginning only, is too long to stand beside others, or is refused early."""
TOGETHER = [
    *(HOSTILE[name] for name in _ALONE),
    *(
        " ".join(text for name, text in HOSTILE.items() if name not in _ALONE)[i : i + 120]
        for i in (0, 120, 240)
    ),
]
"""The same texts in as few as show them whole."""
_COMMAND = re.compile(r"::(?:error|warning|notice) (?:file|title)=")
_LONGEST_RUN = LONGEST + 150
"""A name and what devplan writes around it without a blank between."""
MOST = 40_000
"""Characters of a report of one small map in words."""


def assert_fit(
    text: str, *, commands: bool = False, is_json: bool = False, most: int = MOST
) -> None:
    """Nothing in a text is more than text."""
    unseen = sorted({repr(char) for char in text if char != "\n" and not is_seen(char)})
    assert not unseen, unseen
    for line in text.split("\n"):
        assert not re.match(r"\s*::", line) or (commands and _COMMAND.match(line)), line
        assert "##[" not in line and "##vso[" not in line, line
    if not is_json:
        longest = max(map(len, text.split()), default=0)
        assert commands or longest <= _LONGEST_RUN, longest
        assert len(text) <= most, len(text)
