"""docs/measurements/mutation.md: what was tried, how much of it was noticed, and what was not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

READ = Path(__file__).with_name("read.yaml")
"""What mistakes that were not noticed turned out to be: ``changes_nothing`` says why nobody can
see it, ``test`` names the test that was written for it.  A mistake is known by its two lines, not
by its place, which moves."""

_HEAD = """\
# Would the tests notice a mistake?

Written by `make mutation`; not to be edited. One mistake at a time was made in a copy of the code,
and the quick test files that call the function were run, the fastest first, for as many seconds as
a run says: those that are about its subpackage (`tools/mutation/calls.py`), or all. Which mistakes
are made is drawn by the seed; nobody had seen a seed before its run. The score leaves out mistakes
that change nothing, each with its reason below."""


def document(runs: Iterable[Mapping[str, Any]]) -> str:
    """The page, from runs with their results."""
    runs, read = list(runs), _read()
    found = [each for run in runs for each in run["results"]]
    parts = dict.fromkeys(part for run in runs for part in run["parts"])
    lines = [
        _HEAD,
        "",
        "| commit | date | seed | tests | mistakes | noticed | change nothing | missed | score |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            _row((run["commit"], run["date"], run["seed"], run["tests"]), run["results"], read)
            for run in runs
        ),
        "",
        "| part | mistakes | noticed | change nothing | missed | score |",
        "|---|---|---|---|---|---|",
        *(_row((part,), [r for r in found if _is_in(r["path"], part)], read) for part in parts),
        _row(("all",), found, read),
    ]
    for run in runs:
        lines += ["", f"## Not noticed: seed {run['seed']}", ""]
        lines += [_said(each, read) for each in run["results"] if not each["noticed"]]
    return "\n".join(lines).rstrip() + "\n"


def _read() -> dict[tuple[str, str], Mapping[str, str]]:
    """(line before, line after) -> what the mistake turned out to be."""
    entries = yaml.safe_load(READ.read_text(encoding="utf-8")) or []
    return {(each["before"], each["after"]): each for each in entries}


def _said(result: Mapping[str, Any], read: Mapping[tuple[str, str], Mapping[str, str]]) -> str:
    what = f"* `{result['name']}`: `{result['before']}` became `{result['after']}`"
    known = read.get((result["before"], result["after"]), {})
    if "changes_nothing" in known:
        return f"{what}\n  * changes nothing: {known['changes_nothing']}"
    if "test" in known:
        return f"{what}\n  * a hole until this test: {known['test']}"
    return f"{what}\n  * not looked into"


def _is_in(path: str, part: str) -> bool:
    return path == part or path.startswith(f"{part}/")


def _row(
    titles: tuple[Any, ...],
    results: list[Mapping[str, Any]],
    read: Mapping[tuple[str, str], Mapping[str, str]],
) -> str:
    noticed = sum(each["noticed"] for each in results)
    nothing = sum(
        "changes_nothing" in read.get((each["before"], each["after"]), {})
        for each in results
        if not each["noticed"]
    )
    changing = len(results) - nothing
    score = f"{noticed / changing:.0%}" if changing else ""
    cells = (*titles, len(results), noticed, nothing, changing - noticed, score)
    return f"| {' | '.join(map(str, cells))} |"
