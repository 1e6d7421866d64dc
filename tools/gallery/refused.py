"""The maps that must be refused: what their heads declare, and the page that lists them.

A head is the comment above the map: the title, the story, and lines that are read here::

    # source: where it was reported
    # check: the options of `devplan check`
    # expect: the codes that it must give, with --strict
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "maps" / "broken"
PAGE = FOLDER / "README.md"
_FACT = re.compile(r"# (source|check|expect): (.+)")

HEAD = """\
<!-- Written by `make maps` from the heads of the maps beside it. -->

# Maps that must be refused

Maps that people used or that planners made, each with its story above it; `devplan check` refuses
them all (`make maps-check`), with the options that its head names.

| map | what is wrong | found | reported |
| --- | --- | --- | --- |
"""


@dataclass(frozen=True, kw_only=True)
class BrokenMap:
    """One file of the folder."""

    path: Path
    title: str
    story: tuple[str, ...]
    sources: tuple[str, ...]
    options: tuple[str, ...]
    codes: frozenset[str]


def broken_maps() -> list[BrokenMap]:
    """Every map of the folder."""
    return [read_head(path) for path in sorted(FOLDER.glob("*.yaml"))]


def read_head(path: Path) -> BrokenMap:
    """What the comment above a map declares."""
    lines = path.read_text(encoding="utf-8").splitlines()
    head = [line for line in lines if line.startswith("#")]
    facts: dict[str, list[str]] = {"source": [], "check": [], "expect": []}
    told = []
    for line in head:
        fact = _FACT.fullmatch(line)
        if fact:
            facts[fact[1]].append(fact[2])
        else:
            told.append(line.removeprefix("#").strip())
    return BrokenMap(
        path=path,
        title=told[0],
        story=tuple(told[1:]),
        sources=tuple(facts["source"]),
        options=tuple(" ".join(facts["check"]).split()),
        codes=frozenset(" ".join(facts["expect"]).split()),
    )


def page_text(maps: list[BrokenMap]) -> str:
    """The page that lists the folder."""
    return HEAD + "".join(_line(each) for each in maps)


def _line(each: BrokenMap) -> str:
    codes = ", ".join(f"[{code}](../../docs/rules/{code}.md)" for code in sorted(each.codes))
    sources = ", ".join(_link(source) for source in each.sources)
    return f"| [{each.path.stem}]({each.path.name}) | {each.title} | {codes} | {sources} |\n"


def _link(source: str) -> str:
    report = re.fullmatch(r"https://github\.com/(.+)/(?:issues|pull)/(\d+)", source)
    if report:
        return f"[{report[1].rpartition('/')[2]}#{report[2]}]({source})"
    return f"[{source.rpartition('/')[2]}](../../{source})"
