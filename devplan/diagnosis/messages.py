"""The table of messages, and which of them a text is.

``messages.yaml`` is the only place that knows what a message looks like; its head says how an entry
is written.  Patterns are searched in text whose white space is single spaces, so that wrapped
lines match; the first entry that matches wins.

Most text is none of them, so that the constant words of a pattern are looked for first
(`wordings`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

import yaml

from devplan.core import Fix, parse_bytes, parse_whole
from devplan.diagnosis.failure_report import FailureKind

_LONGEST_SIZE = 30
"""Characters; no card has a size of more digits."""
_SCANNED = 2**18
_OVERLAP = 10_000
"""Characters that are scanned together, and those of the end that are scanned again with what
follows: no message is longer that matters."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a message comes from."""

    library: str
    version: str
    file: str
    """In the library's repository."""
    text: str
    """As it stands there, or its longest constant part."""
    installed: str = ""
    """The file below site-packages that holds the text; empty: the same as `file`."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message of a library."""

    id: str
    kind: FailureKind
    pattern: re.Pattern[str]
    meaning: str
    causes: tuple[str, ...]
    fixes: tuple[Fix, ...]
    """With places to fill."""
    sources: tuple[Source, ...]
    rule: str | None = None
    words: tuple[str, ...] = ()
    """Texts of which a match holds at least one; none: not known."""

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        return "; ".join(f"{s.library} {s.version}, {s.file}" for s in self.sources)


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """A text that is a message of the table."""

    message: Message
    text: str
    """The message itself, white space folded."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the pattern's groups held: ``device``, ``other``, ``wrapper``, ``requested``, ..."""

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices that the message names, each once, as devplan writes them."""
        named = (self.facts[key] for key in ("device", "other", "third") if key in self.facts)
        return tuple(dict.fromkeys(map(stated_device, named)))

    def size(self, name: str) -> int | None:
        """A size that the message says: ``requested``, ``total``, ``free``, ``allocated``."""
        text = self.facts.get(name, "").replace("bytes", "B")
        if not text or len(text) > _LONGEST_SIZE:
            return None
        return parse_whole(text) if text.isdecimal() else parse_bytes(text)


def stated_device(text: str) -> str:
    """``cuda:1`` of ``cuda:1``, ``1`` or ``GPU 1``."""
    digits = text.removeprefix("GPU").strip()
    return f"cuda:{digits}" if digits.isdecimal() else text


@cache
def messages() -> tuple[Message, ...]:
    """The whole table, in its order."""
    text = resources.files(__package__).joinpath("messages.yaml").read_text(encoding="utf-8")
    return tuple(_message(entry) for entry in yaml.safe_load(text))


def _message(entry: dict) -> Message:
    return Message(
        id=entry["id"],
        kind=FailureKind(entry["kind"]),
        pattern=re.compile(entry["pattern"]),
        words=wordings(entry["pattern"]),
        meaning=entry["meaning"],
        causes=tuple(entry["causes"]),
        fixes=tuple(Fix(text=fix["do"], command=fix.get("run", "")) for fix in entry["fixes"]),
        sources=tuple(Source(**source) for source in entry["sources"]),
        rule=entry.get("rule"),
    )


def folded(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def recognise(text: str) -> Recognised | None:
    """Which message of the table a text is, or holds."""
    text = folded(text)
    for message in _candidates(text):
        found = message.pattern.search(text)
        if found:
            return _recognised(message, text, found)
    return None


def _candidates(text: str) -> list[Message]:
    """The messages whose constant words are in a text, in the order of the table."""
    return [message for words, message in _by_words() if words in text]


@cache
def _by_words() -> tuple[tuple[str, Message], ...]:
    return tuple((words, each) for each in messages() for words in each.words or ("",))


def _recognised(message: Message, text: str, found: re.Match[str]) -> Recognised:
    facts = {name: value for name, value in found.groupdict().items() if value}
    return Recognised(message=message, text=text, facts=facts)


class Scan:
    """The messages of the table that stand anywhere in a text, which comes in pieces."""

    def __init__(self) -> None:
        self._found: dict[str, Recognised] = {}
        self._pieces: list[str] = []
        self._size = 0

    def read(self, text: str) -> None:
        """Go on with this piece."""
        self._pieces.append(text)
        self._size += len(text)
        if self._size > _SCANNED:
            text = folded(" ".join(self._pieces))
            # [borders] what begins near the end is looked for when what follows is there too.
            self._search(text, len(text) - _OVERLAP)
            self._pieces, self._size = [text[-_OVERLAP:]], 0

    def end(self) -> None:
        """There are no more pieces."""
        text = folded(" ".join(self._pieces))
        self._search(text, len(text))
        self._pieces.clear()

    def _search(self, text: str, end: int) -> None:
        for message in _candidates(text):
            if message.id not in self._found:
                found = message.pattern.search(text)
                if found and found.start() <= end:
                    self._found[message.id] = _recognised(message, text, found)

    @property
    def ids(self) -> tuple[str, ...]:
        """In the order of the table."""
        return tuple(message.id for message in messages() if message.id in self._found)

    @property
    def first(self) -> Recognised | None:
        """That which stands first in the table."""
        return self._found[self.ids[0]] if self.ids else None


_PARTS = re.compile(
    r"""(?P<open>\(\?(?:[:=!]|P<\w+>|<[=!])|\((?!\?))|(?P<close>\))|(?P<either>\|)
    |(?P<any>\[\^?\]?(?:\\.|[^\]\\])*\]|\\[wWdDsSbBAZ]|[.^$])
    |(?P<times>[*?+]\??|\{\d+(?:,\d*)?\}\??)|\\?(?P<sign>[\s\S])""",
    re.VERBOSE,
)


def wordings(pattern: str) -> tuple[str, ...]:
    """The longest constant text of each way in which a pattern can match.

    Examples
    --------
    >>> wordings(r"No GPU (?:or XPU )?found\\. (?P<name>\\w+) is needed|out of memory")
    ('No GPU ', 'out of memory')
    """
    ways: list[list[str]] = [[""]]
    depth = 0
    for part in _PARTS.finditer(pattern):
        runs = ways[-1]
        depth += (part.lastgroup == "open") - (part.lastgroup == "close")
        if part.lastgroup == "either" and not depth:
            ways.append([""])
        elif part.lastgroup == "times" and not depth:
            # [repeated] the sign before it may be there any number of times.
            runs[-1] = runs[-1][:-1]
            runs.append("")
        elif part.lastgroup == "sign" and not depth:
            runs[-1] += part["sign"]
        elif runs[-1]:
            runs.append("")
    longest = tuple(max(runs, key=len) for runs in ways)
    return longest if all(longest) else ()
