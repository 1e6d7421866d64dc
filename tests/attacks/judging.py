"""What holds for every input, whatever it is."""

from __future__ import annotations

import fnmatch
import glob
import json
import os
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from tests.attacks.guard import Outcome
from tests.attacks.zygote import TIMED_OUT

STATUSES = (0, 1, 2)
PREFIXES = ("devplan: ", "note: ", "wrote ", "warning: ")
LONGEST_LINE = 2000
"""Of a line for people: more is a stranger's text repeated whole."""

# Control characters but newline and tab, what turns the direction of text, and half characters.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_COMMANDS = re.compile(r"^::(?!(error|warning|notice)[ :])", re.MULTILINE)


def complaints(
    argv: Sequence[str], outcome: Outcome, *, seconds: float = 10.0, mib: float = 1024.0
) -> list[str]:
    """What is wrong with an outcome; nothing for a good one."""
    if outcome.status == TIMED_OUT:
        return [f"did not end in {outcome.seconds:.0f} s"]
    found = list(dict.fromkeys(outcome.strayed))
    if outcome.status not in STATUSES:
        found.append(f"ended with status {outcome.status}")
    for name, text in (("stdout", outcome.out), ("stderr", outcome.err)):
        found += _unsafe_text(name, text, data=name == "stdout" and _is_data(argv))
    is_report = bool({"-", "--verbose", "--traceback"} & set(argv))
    if not is_report:
        found += _foreign_lines(outcome.err)
    if outcome.status == 2 and not outcome.err.strip():
        found.append("refused without a word")
    found += _broken_json(argv, outcome)
    if outcome.seconds > seconds:
        found.append(f"took {outcome.seconds:.1f} s, at most {seconds:g} are allowed")
    if outcome.peak_mib > mib:
        found.append(f"took {outcome.peak_mib:.0f} MiB, at most {mib:g} are allowed")
    return found


def _unsafe_text(name: str, text: str, *, data: bool) -> Iterable[str]:
    if "Traceback (most recent call last)" in text:
        last = [line for line in text.splitlines() if line.strip()][-1]
        yield f"a traceback on {name}: {last[:160]}"
    unsafe = _UNSAFE.search(text)
    if unsafe:
        around = text[max(unsafe.start() - 30, 0) : unsafe.end() + 10]
        yield f"U+{ord(unsafe[0]):04X} on {name}: {around!r}"
    if _COMMANDS.search(text):
        yield f"a command for GitHub on {name}: {_COMMANDS.search(text)!r}"
    longest = max((len(line) for line in text.split("\n")), default=0)
    if longest > LONGEST_LINE and not data:
        yield f"a line of {longest} characters on {name}"


def _foreign_lines(err: str) -> Iterable[str]:
    for line in err.split("\n"):
        if line and not line.startswith(PREFIXES):
            yield f"a line that is not devplan's on stderr: {line[:120]!r}"
            return


def _is_data(argv: Sequence[str]) -> bool:
    """Whether stdout is for programs (or a file that was asked for there), not for people."""
    return bool({"--json", "json", "sarif", "-", "graph"} & set(argv)) or any(
        argument.endswith(("=json", "=sarif")) for argument in argv
    )


def _broken_json(argv: Sequence[str], outcome: Outcome) -> Iterable[str]:
    wants = _form(argv) in ("json", "sarif") or "--json" in argv
    to_file = {"-o", "--output", "--write-baseline", "-h", "--help", "--version"} & set(argv)
    if wants and not to_file and outcome.status in (0, 1) and outcome.out:
        try:
            json.loads(outcome.out, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            yield f"stdout is no JSON ({error}): {outcome.out[:80]!r}"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _form(argv: Sequence[str]) -> str | None:
    for before, after in pairwise(argv):
        if before == "--format":
            return after
    return None


# ------------------------------------------------------------------------------------------- files


def seen_files(root: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a folder that could be written to."""
    found = {}
    for path in root.rglob("*"):
        if "__pycache__" not in path.parts:
            state = path.lstat()
            kind = 0 if path.is_dir() else state.st_mtime_ns
            found[path.relative_to(root).as_posix()] = (
                state.st_mode,
                0 if kind == 0 else state.st_size,
                kind,
            )
    return found


_WRITING = ("-o", "--output", "--remap", "--baseline")


def written_by(argv: Sequence[str], status: int) -> list[str]:
    """Patterns of the files that a command line asks for; none where it was refused."""
    command = argv[0] if argv else ""
    several = command == "check" and status == 2  # one map of several may be refused
    if status not in (0, 1) and not several:
        return []
    named = [after for before, after in pairwise(argv) if before in _WRITING]
    found = [glob.escape(os.path.normpath(name)) for name in named]
    if command == "suggest":
        found.append("maps/*")
    if command == "lock":  # the map that is named is the one that is written
        found += [argument for argument in argv[1:] if argument.endswith(".yaml")]
    return found


def stray_files(before: dict, after: dict, allowed: Sequence[str], *, hub: bool) -> list[str]:
    """Files that are new, gone or changed and were not to be."""
    allowed = [f"here/{pattern}" for pattern in allowed] + ["outcome.json"]
    if hub:
        allowed.append("cache/*")
    found = []
    for name in sorted({*before, *after}):
        if before.get(name) == after.get(name):
            continue
        is_parent = any(pattern.startswith(name + "/") for pattern in allowed) or (
            hub and name == "cache"
        )
        if not is_parent and not any(fnmatch.fnmatchcase(name, pattern) for pattern in allowed):
            verb = "wrote" if name not in before else "removed" if name not in after else "changed"
            found.append(f"{verb} {name[:100]}")
    return found
