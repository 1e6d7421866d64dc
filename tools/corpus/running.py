"""Run a bug in the last release that has it and in the first that has not, and judge.

Exceptions to "nothing is found in the fixed release": the release may have another bug at another
line that the same map shows.  Where somebody has read the code and confirmed that, the bug says so
(``also``), and exactly those lines are let pass.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tools.commit import commit
from tools.corpus.environments import HERE, NoEnvironment, environment, pins_of, variables

TIMEOUT_S = 240
"""For one check.  Measured on two busy cores: imports take about 10 s of it, most checks 5 s."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one check showed."""

    errors: tuple[Mapping[str, Any], ...] = ()
    phases: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    failure: str = ""
    """Why there was no check: out of time, an exception, no environment."""
    seconds: float = field(default=0.0, compare=False)

    @property
    def ran(self) -> bool:
        return bool(self.phases) and not self.failure


def catalogue() -> list[dict[str, Any]]:
    """All bugs, in the order of the file."""
    return yaml.safe_load((HERE / "bugs.yaml").read_text(encoding="utf-8"))


def pins_for(bug: Mapping[str, Any], version: str) -> list[str]:
    """What pip is to install for a release of the package that has a bug."""
    extra = bug.get("needs", ())
    if bug.get("package", "transformers") == "accelerate":
        return pins_of(bug["with_transformers"], version, extra)
    return pins_of(version, None, extra)


def run_in(bug: Mapping[str, Any], version: str) -> Outcome:
    """Check a bug's model and map in a release of the package that has the bug."""
    pins = pins_for(bug, version)
    started = time.monotonic()
    try:
        folder = environment(pins)
        return _checked(_by_names_of(bug, version), folder, started)
    except (NoEnvironment, subprocess.TimeoutExpired) as error:
        reason = "out of time" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        return Outcome(failure=reason, seconds=time.monotonic() - started)


def _by_names_of(bug: Mapping[str, Any], version: str) -> Mapping[str, Any]:
    """The bug with its map as the modules are called in that release."""
    if version == bug["fixed"] and "fixed_map" in bug:
        return {**bug, "map": bug["fixed_map"]}
    return bug


def _checked(bug: Mapping[str, Any], folder: Path, started: float) -> Outcome:
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [sys.executable, "-m", "tools.corpus.worker"],
            input=json.dumps(bug),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env=variables(folder),
            cwd=empty,
        )
    seconds = time.monotonic() - started
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return Outcome(failure=lines[-1] if lines else "no output", seconds=seconds)
    found = json.loads(done.stdout)
    return Outcome(
        errors=tuple(found["errors"]),
        phases=tuple(found["phases"]),
        notes=tuple(found["notes"]),
        seconds=seconds,
    )


# ------------------------------------------------------------------------------------ judging


def flagged(bug: Mapping[str, Any], buggy: Outcome) -> Mapping[str, Any] | None:
    """The finding at the line of the bug; None where there is none."""
    places = {f"{bug['file']}:{line}" for line in lines_of(bug)}
    return next((error for error in buggy.errors if error["at"] in places), None)


def lines_of(bug: Mapping[str, Any]) -> list[int]:
    """The lines at which the bug may be flagged: one, or the lines of one statement."""
    return bug["line"] if isinstance(bug["line"], list) else [bug["line"]]


def unexpected(bug: Mapping[str, Any], fixed: Outcome) -> list[str]:
    """Places of the findings in the fixed release that nobody has confirmed as other bugs."""
    known = {entry["at"] for entry in bug.get("also", ())}
    return [str(e["at"] or e["message"]) for e in fixed.errors if e["at"] not in known]


def record(bug: Mapping[str, Any], buggy: Outcome, fixed: Outcome) -> dict[str, Any]:
    """What is kept of the two runs."""
    finding = flagged(bug, buggy)
    strange = unexpected(bug, fixed)
    caught = finding is not None and fixed.ran and not strange
    return {
        "caught": caught,
        "op": finding["op"] if finding else None,
        "code": finding["code"] if finding else None,
        "at": finding["at"] if finding else None,
        "text": finding["line"] if finding else None,
        "buggy": _summary(buggy),
        "fixed": _summary(fixed),
        "fixed_findings": [str(e["at"] or e["message"]) for e in fixed.errors],
        "commit": commit(),
    }


def _summary(outcome: Outcome) -> str:
    if outcome.failure:
        return outcome.failure
    number = len(outcome.errors)
    what = "clean" if not number else f"{number} finding{'' if number == 1 else 's'}"
    return f"{what}; ran {', '.join(outcome.phases) or 'nothing'}"
