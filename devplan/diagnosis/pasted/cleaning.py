"""Colours, progress bars, time stamps, log levels and names of processes: taken off every line.

Prefixes that are known by their form come first.  Others are learnt: what stands before ``Traceback
(most recent call last):`` or before ``File "..."`` on one line stands, with other numbers, before
the rest of that traceback too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# ECMA-48 control sequences; the last form is what is left of one whose ESC got lost in the paste.
_COLOURS = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]"
    r"|\[\d{1,2}(?:;\d{1,3})*m"
)
_LINK = re.compile(r"\[([^\]\n]{1,300})\]\((?:https?|file)[^)\s]*\)")
"""Markdown links, in which notebooks wrap files and line numbers."""

_RANK = re.compile(r"\[?(?P<rank>(?:local_)?(?:rank|default|node)\s?\d+)\]?:? ?", re.IGNORECASE)
_DATE = r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d"
_KNOWN = re.compile(
    "|".join(
        (
            rf"\[?{_DATE}(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]?(?:\s*[|:,-]\s?|\s)",
            r"\[?\d\d:\d\d:\d\d(?:[.,]\d+)?\]?(?:\s*[|,-]\s?|\s)",
            r"\[?(?:DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)\]?(?:\s*[|:-]\s?|\s)",
            r"\((?:[\w.]+ )?pid=\d+(?:, ip=[\d.]+)?\) ?",
            r"[\w.-]+-\d+\s+\| ",
            r"> ?(?=\s|File|Traceback|$)",
        )
    )
)
_HEAD = r"(?:Traceback \(most recent call last\)|File \"[^\"]+\", line \d+)"
_LEARNT = re.compile(rf"^(?P<prefix>.{{0,200}}?\S)\s*(?={_HEAD})")
_SIGNS = re.compile(r"Traceback \(|File \"")
_LONGEST_PREFIX = 100
_LONGEST_LINE = 4_000
"""Characters of a line that are read: a dump of weights or of base64 says nothing of an error."""


def cleaned_lines(text: str) -> list[tuple[str, str]]:
    """Every line as the process that said it (empty: not named) and what it said."""
    lines = [_without_known(_bare(line)) for line in text.split("\n")]
    learnt = _learnt_prefixes(said for _, said in lines)
    if learnt is None:
        return lines
    return [(rank, learnt.sub("", said, count=1)) for rank, said in lines]


def _bare(line: str) -> str:
    """What a progress bar left of a line, not too much of it, without colours and links."""
    shown = line.rstrip("\r").rpartition("\r")[2][:_LONGEST_LINE]
    if "\x1b" in shown or "[" in shown:
        shown = _LINK.sub(r"\1", _COLOURS.sub("", shown))
    return shown


def _without_known(line: str) -> tuple[str, str]:
    """The line without the prefixes that are known by their form, however many."""
    rank, said = "", line
    while True:
        bare = said.lstrip(" ") if said.lstrip(" ")[:1] in "[(>0123456789" else said
        named = _RANK.match(bare)
        if named and (bare.startswith("[") or bare[named.end() - 2 : named.end()] == ": "):
            rank, said = rank or named["rank"].lower().replace(" ", ""), bare[named.end() :]
            continue
        known = _KNOWN.match(bare)
        if not known:
            return rank, said
        said = bare[known.end() :]


def _learnt_prefixes(lines: Iterable[str]) -> re.Pattern[str] | None:
    found: dict[str, None] = {}
    for line in lines:
        match = _LEARNT.match(line) if _SIGNS.search(line) else None
        if match and _may_be_prefix(match["prefix"]):
            found[re.sub(r"\d+", r"\\d+", re.escape(match["prefix"]))] = None
    if not found:
        return None
    either = "|".join(sorted(found, key=len, reverse=True))
    return re.compile(rf"^(?:{either}) ?")


def _may_be_prefix(text: str) -> bool:
    """Not the frame that rich draws, nor the name of the exception that notebooks put there."""
    if len(text) > _LONGEST_PREFIX or any(sign in text for sign in "│╭╰"):
        return False
    return re.fullmatch(r"[\w.]*(?:Error|Exception|Warning|Interrupt|Exit|Group)", text) is None
