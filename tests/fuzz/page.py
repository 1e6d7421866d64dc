"""The figures of a run, as ``docs/measurements/robustness.md``."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence

from tabulate import tabulate

from tests.fuzz.inputs import KINDS
from tests.fuzz.minimise import signature
from tests.fuzz.working import CPU_S, MIB, Result

_HEAD = """# Robustness

What devplan does with input that nobody meant for it: `make fuzz` spoils real files and command
lines, as bytes and as trees, and runs each in a process that is watched; `make attacks` tries the
{attacks} attacks of `tests/attacks/cases`, each a file that says what must happen.

For every input must hold: the exit status is 0, 1 or 2 (70, of what nobody foresaw, is a failure);
no traceback; no control character but newline and tab in either stream, no line longer than 2,000
characters, nothing that GitHub takes for a command; stderr has only lines of devplan's own; JSON is
JSON; no canary is imported or called, no process is started, nobody outside is connected to; no
file but the one that was asked for is written, and none by a command that refused; whatever was
replaced in torch, transformers, accelerate and Python is itself again; at most {seconds:g} s of CPU
and {mib:,.0f} MiB on top of the libraries.

`python -m tests.fuzz --inputs {inputs} --seed {seed}`, {date}, commit {commit}: {setting}.

## Inputs
"""


def page_of(
    results: Sequence[Result], *, seed: str, commit: str, date: str, setting: str, attacks: int
) -> str:
    """The page of a run."""
    head = _HEAD.format(
        seconds=CPU_S,
        mib=MIB,
        inputs=len(results),
        seed=seed,
        date=date,
        commit=commit,
        setting=setting,
        attacks=attacks,
    )
    columns = ["inputs", "failures", "refused", "slowest, s", "median, s", "most memory, MiB"]
    rows = [[kind, *_figures([r for r in results if r.kind == kind])] for kind in KINDS]
    rows.append(["all", *_figures(results)])
    table = tabulate(rows, headers=["kind", *columns], tablefmt="github", disable_numparse=True)
    return f"{head}\n{table}\n\n{_failures(results)}"


def _figures(results: Sequence[Result]) -> list[str]:
    if not results:
        return ["0", "0", "0", "-", "-", "-"]
    seconds = sorted(result.seconds for result in results)
    return [
        f"{len(results):,}",
        f"{sum(bool(result.found) for result in results):,}",
        f"{sum(result.status == 2 for result in results):,}",
        f"{seconds[-1]:.1f}",
        f"{seconds[len(seconds) // 2]:.2f}",
        f"{max(result.mib for result in results):,.0f}",
    ]


def _failures(results: Sequence[Result]) -> str:
    wrong = Counter(signature(result.found) for result in results if result.found)
    if not wrong:
        return "No input failed.\n"
    lines = [f"* {count:,} times: {what}" for what, count in wrong.most_common()]
    return "## What failed\n\n" + "\n".join(lines) + "\n"


def setting() -> str:
    """Versions and machine."""
    import os

    from devplan.mapfile.of_plan import installed_versions

    versions = installed_versions("transformers")
    versions.pop("devplan")
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Python {platform.python_version()}, {named}; {os.cpu_count()} CPU cores, no GPU"
