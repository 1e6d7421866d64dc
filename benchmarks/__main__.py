"""``python -m benchmarks [--small] [NAME ...]``: measure, write ``docs/measurements/``, print.

Exit status 1 when a requirement was missed.  A small run shows that everything still works: each
module says in ``SMALL`` which of its names are other ones then; nothing is written, and no
requirement is missed, as its times mean nothing.
"""

from __future__ import annotations

import importlib
import logging
import sys
import time
from pathlib import Path
from types import ModuleType

from benchmarks.report import Report, as_markdown, write

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
"""Modules with ``measure()`` and ``SMALL``; the command line first, before this process has loaded
anything."""
FOLDER = Path(__file__).parent.parent / "docs" / "measurements"


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all."""
    is_small = names[:1] == ["--small"]
    names = names[is_small:]
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    # accelerate warns of each card that this machine lacks; printing it must not count as planning.
    logging.getLogger("accelerate.utils.modeling").setLevel(logging.ERROR)
    missed = []
    for name in names or BENCHMARKS:
        start = time.perf_counter()
        report = measured_small(name) if is_small else _module(name).measure()
        if not is_small:
            write(report, name, FOLDER)
        print(as_markdown(report, f"python -m benchmarks {name}"))
        print(f"{name}: {time.perf_counter() - start:.0f} s\n", file=sys.stderr)
        missed += [f"{name}: {r.text} ({r.measured})" for r in report.missed if not is_small]
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0


def measured_small(name: str) -> Report:
    """The report of a benchmark over less of everything; the module is afterwards as before."""
    module = _module(name)
    before = {each: getattr(module, each) for each in module.SMALL}
    try:
        vars(module).update(module.SMALL)
        return module.measure()
    finally:
        vars(module).update(before)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
