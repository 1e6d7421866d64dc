"""``python -m benchmarks [NAME ...]``: measure, write ``docs/measurements/``, print.

Exit status 1 when a requirement was missed.
"""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

from benchmarks.report import as_markdown, write

BENCHMARKS = (
    "command_line",
    "placement",
    "planning_time",
    "solver",
    "many_modules",
    "kv_cache",
    "transfer_cache",
    "check_speed",
    "proof_time",
    "kimi",
    "pipelines",
    "survey",
    "proven",
    "loading",
    "diagnosis",
)
"""Modules with ``measure()``; the command line first, before this process has loaded anything."""
FOLDER = Path(__file__).parent.parent / "docs" / "measurements"


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    missed = []
    for name in names or BENCHMARKS:
        start = time.perf_counter()
        report = importlib.import_module(f"benchmarks.{name}").measure()
        write(report, name, FOLDER)
        print(as_markdown(report, f"python -m benchmarks {name}"))
        print(f"{name}: {time.perf_counter() - start:.0f} s\n", file=sys.stderr)
        missed += [f"{name}: {r.text} ({r.measured})" for r in report.missed]
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
