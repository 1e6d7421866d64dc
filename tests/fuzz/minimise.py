"""What failed, made small: files and words are left out as long as the same is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Input = dict[str, Any]
_MOST_TRIES = 120


def signature(found: list[str]) -> str:
    """What is wrong, without what differs from one input to the next."""
    first = sorted(found)[0]
    traceback = re.search(r"(\w+(Error|Exception|Interrupt))\b", first)
    if "status 70" in first or traceback:
        return f"{traceback[1] if traceback else 'unforeseen'}"
    return re.sub(r"\d+(\.\d+)?|'.*'|\".*\"", "#", first)[:80]


def minimised(content: Input, still_fails: Callable[[Input], bool]) -> Input:
    """A smaller input for which `still_fails` holds too."""
    tries = _Tries(still_fails)
    for name in list(content.get("files", {})):
        rest = {key: value for key, value in content["files"].items() if key != name}
        if tries.holds({**content, "files": rest}):
            content = {**content, "files": rest}
    for name, value in list(content.get("files", {}).items()):
        if isinstance(value, str):
            content = _with_shorter(content, name, tries)
    argv = list(content["run"])
    for place in reversed(range(1, len(argv))):
        shorter = [*argv[:place], *argv[place + 1 :]]
        if tries.holds({**content, "run": shorter}):
            argv = shorter
            content = {**content, "run": shorter}
    return content


def _with_shorter(content: Input, name: str, tries: _Tries) -> Input:
    def with_text(text: str) -> Input:
        return {**content, "files": {**content["files"], name: text}}

    return with_text(_shorter(content["files"][name], lambda text: tries.holds(with_text(text))))


class _Tries:
    def __init__(self, still_fails: Callable[[Input], bool]) -> None:
        self._fails, self._left = still_fails, _MOST_TRIES

    def holds(self, content: Input) -> bool:
        self._left -= 1
        return self._left >= 0 and self._fails(content)


def _shorter(text: str, holds: Callable[[str], bool]) -> str:
    """Pieces left out, halves first."""
    size = len(text) // 2
    while size >= 1:
        place = 0
        while place < len(text):
            shorter = text[:place] + text[place + size :]
            if holds(shorter):
                text = shorter
            else:
                place += size
        size //= 2
    return text
