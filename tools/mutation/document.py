"""docs/measurements/mutation.md: what was tried, how much of it was noticed, and what was not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def document(
    results: Iterable[Mapping[str, Any]],
    parts: tuple[str, ...],
    *,
    commit: str,
    date: str,
    seed: int,
    near: bool,
) -> str:
    """The page, from the lines of the journal."""
    which = "of the function's own folder that call it" if near else "that call the function"
    found = list(results)
    rows = [_row(part, [each for each in found if _is_in(each["path"], part)]) for part in parts]
    missed = [each for each in found if not each["noticed"]]
    lines = [
        "# Would the tests notice a mistake?",
        "",
        "Written by `make mutation`; not to be edited. One mistake at a time was made in a copy of",
        f"the code, and the quick test files {which} were run, nearest folder first.",
        "Mistakes that change nothing are among those that were not noticed.",
        "",
        f"Commit {commit}, {date}, seed {seed}, {len(found)} mistakes.",
        "",
        "| part | mistakes | noticed | in its own folder |",
        "|---|---|---|---|",
        *rows,
        _row("all", found),
        "",
        "## Not noticed",
        "",
        *(f"* `{each['name']}`: `{each['before']}` became `{each['after']}`" for each in missed),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _is_in(path: str, part: str) -> bool:
    return path == part or path.startswith(f"{part}/")


def _row(title: str, results: list[Mapping[str, Any]]) -> str:
    noticed = [each for each in results if each["noticed"]]
    beside = [each for each in noticed if each["beside"]]
    share = f" ({len(noticed) / len(results):.0%})" if results else ""
    return f"| {title} | {len(results)} | {len(noticed)}{share} | {len(beside)} |"
