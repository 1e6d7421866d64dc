"""Colours, progress bars, time stamps, log levels and names of processes: taken off every line.

Prefixes that are known by their form come first.  Others are learnt: what stands before ``Traceback
(most recent call last):`` or before ``File "..."`` on one line stands, with other numbers, before
the rest of that traceback too.

A log may be of hours: it is read in pieces, each pattern takes time in proportion to the line, and
lines that come again are cleaned once.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

# ECMA-48 control sequences; the last form is what is left of one whose ESC got lost in the paste.
_COLOURS = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]"
    r"|\[\d{1,2}(?:;\d{1,3})*m"
)
_LINK = re.compile(r"\[([^\[\]\n]{1,300})\]\((?:https?|file)[^()\[\s]*\)")
"""Markdown links, in which notebooks wrap files and line numbers.  Neither part may hold the sign
that opens it: each is then read once, wherever it begins."""

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
_FIRST = frozenset("[(>0123456789RrLlDdNnIWECF")
"""What a prefix of a known form begins with, unless it ends in a bar."""
_MOST_PREFIXES = 20
_HEAD = re.compile(r"Traceback \(most recent call last\)|File \"[^\"]+\", line \d")
_SIGNS = re.compile(r"Traceback \(|File \"")
_LONGEST_PREFIX = 100
_MOST_LEARNT = 32
"""Prefixes that are learnt; a text where every line has one of its own teaches nothing."""
_LONGEST_LINE = 4_000
"""Characters of a line that are read: a dump of weights or of base64 says nothing of an error."""
_PIECE = 2**20
_MOST_KEPT = 50_000
_LONGEST_KEPT = 500
"""Lines that are remembered, and characters of one: progress and retries say the same again."""


def pieces_of(text: str | bytes) -> Iterator[str]:
    """The text in pieces that end where a line ends; bytes are decoded on the way."""
    newline = "\n" if isinstance(text, str) else b"\n"
    start = len(codecs.BOM_UTF8) if newline == b"\n" and text[:3] == codecs.BOM_UTF8 else 0
    while start <= len(text):
        end = text.find(newline, start + _PIECE)
        piece = text[start:] if end < 0 else text[start:end]
        yield piece if isinstance(piece, str) else piece.decode("utf-8", errors="replace")
        if end < 0:
            return
        start = end + 1


def cleaned_pieces(text: str | bytes) -> Iterator[dict[str, list[str]]]:
    """The lines of each piece by the process that said them (empty: not named)."""
    known = _Cleaned(_learnt_prefixes(text))
    for piece in pieces_of(text):
        said: dict[str, list[str]] = {}
        for line in piece.split("\n"):
            rank, bare = known[line]
            said.setdefault(rank, []).append(bare)
        yield said


class _Cleaned(dict[str, tuple[str, str]]):
    """Line -> the process that said it, and what it said; worked out when it is first asked for."""

    def __init__(self, learnt: re.Pattern[str] | None) -> None:
        super().__init__()
        self._learnt = learnt

    def __missing__(self, line: str) -> tuple[str, str]:
        rank, said = _without_known(_bare(line))
        if self._learnt is not None:
            said = self._learnt.sub("", said, count=1)
        if len(line) <= _LONGEST_KEPT:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[line] = rank, said
        return rank, said


def _bare(line: str) -> str:
    """What a progress bar left of a line, not too much of it, without colours and links."""
    shown = line.rstrip("\r").rpartition("\r")[2] if "\r" in line else line
    shown = shown[:_LONGEST_LINE]
    if "\x1b" in shown or "[" in shown:
        shown = _LINK.sub(r"\1", _COLOURS.sub("", shown))
    return shown


def _without_known(line: str) -> tuple[str, str]:
    """The line without the prefixes that are known by their form."""
    rank, said = "", line
    for _ in range(_MOST_PREFIXES):
        bare = said.lstrip(" ")
        if bare[:1] not in _FIRST and "| " not in said:
            break
        if bare[:1] not in "[(>0123456789":
            bare = said
        named = _RANK.match(bare)
        if named and (bare.startswith("[") or bare[named.end() - 2 : named.end()] == ": "):
            rank, said = rank or named["rank"].lower().replace(" ", ""), bare[named.end() :]
            continue
        known = _KNOWN.match(bare)
        if not known:
            break
        said = bare[known.end() :]
    return rank, said


def _learnt_prefixes(text: str | bytes) -> re.Pattern[str] | None:
    found: dict[str, None] = {}
    known = _Cleaned(None)
    for piece in pieces_of(text):
        for line in _lines_with_signs(piece):
            said = known[line][1]
            head = _HEAD.search(said)
            prefix = said[: head.start()].rstrip() if head else ""
            if prefix and _may_be_prefix(prefix) and len(found) < _MOST_LEARNT:
                found[re.sub(r"\d+", r"\\d+", re.escape(prefix))] = None
    if not found:
        return None
    either = "|".join(sorted(found, key=len, reverse=True))
    return re.compile(rf"^(?:{either}) ?")


def _lines_with_signs(piece: str) -> Iterator[str]:
    """Lines of a traceback that say where they begin."""
    end = -1
    while sign := _SIGNS.search(piece, end + 1):
        start = piece.rfind("\n", 0, sign.start()) + 1
        end = piece.find("\n", sign.end())
        yield piece[start:] if end < 0 else piece[start:end]
        if end < 0:
            return


def _may_be_prefix(text: str) -> bool:
    """Not the frame that rich draws, nor the name of the exception that notebooks put there."""
    if len(text) > _LONGEST_PREFIX or any(sign in text for sign in "│╭╰"):
        return False
    return re.fullmatch(r"[\w.]*(?:Error|Exception|Warning|Interrupt|Exit|Group)", text) is None
