"""The table of messages, and which of them a text is.

``messages.yaml`` is the only place that knows what a message looks like; its head says how an entry
is written.  Patterns are searched in text whose white space is single spaces, so that wrapped
lines match; the first entry that matches wins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

import yaml

from devplan.diagnosis.story import Kind
from devplan.units import parse_bytes


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
class MessageRemedy:
    """What helps; ``{model}``, ``{map}``, ``{gpus}`` and the like are filled in."""

    do: str
    run: str = ""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message of a library."""

    id: str
    kind: Kind
    pattern: re.Pattern[str]
    meaning: str
    causes: tuple[str, ...]
    remedies: tuple[MessageRemedy, ...]
    sources: tuple[Source, ...]
    rule: str | None = None

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
        return tuple(dict.fromkeys(map(device_name, named)))

    def size(self, name: str) -> int | None:
        """A size that the message says: ``requested``, ``total``, ``free``, ``allocated``."""
        text = self.facts.get(name, "").replace("bytes", "B")
        if not text:
            return None
        return int(text) if text.isdecimal() else parse_bytes(text)


def device_name(text: str) -> str:
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
        kind=Kind(entry["kind"]),
        pattern=re.compile(entry["pattern"]),
        meaning=entry["meaning"],
        causes=tuple(entry["causes"]),
        remedies=tuple(MessageRemedy(**remedy) for remedy in entry["remedies"]),
        sources=tuple(Source(**source) for source in entry["sources"]),
        rule=entry.get("rule"),
    )


def folded(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def recognise(text: str) -> Recognised | None:
    """Which message of the table a text is, or holds."""
    text = folded(text)
    for message in messages():
        found = message.pattern.search(text)
        if found:
            facts = {name: value for name, value in found.groupdict().items() if value}
            return Recognised(message=message, text=text, facts=facts)
    return None
