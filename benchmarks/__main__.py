"""``python -m benchmarks [--small] [NAME ...]``: measure, write ``docs/measurements/``, print.

``python -m benchmarks commands --against REV`` compares with another revision than the one that
`benchmarks.commands` names.

Exit status 1 when a requirement was missed, 2 when a benchmark could not run.  A small run shows
that everything still works: each module says in ``SMALL`` which of its names are other ones then;
nothing is written, and no requirement is missed, as its times mean nothing.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from benchmarks.report import RefusedError, Report, as_markdown, write

BENCHMARKS = (
    "command_line",
    "commands",
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
"""Modules with ``measure()`` and ``SMALL``; those that measure whole processes first, before this
process has loaded anything."""
COMPARING = "commands"
"""The benchmark that compares two revisions."""
FOLDER = Path(__file__).parent.parent / "docs" / "measurements"


def main(arguments: list[str]) -> int:
    """Run the named benchmarks, or all."""
    asked = _parser().parse_args(arguments)
    names = asked.names or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        return _refuse(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    if asked.against and names != [COMPARING]:
        return _refuse(f"--against is for one benchmark only: {COMPARING} --against REV")
    missed, status = [], 0
    for name in names:
        start = time.perf_counter()
        values = _module(name).SMALL if asked.small else {}
        if asked.against:
            values = {**values, "AGAINST": asked.against}
        try:
            report = measured_with(name, values)
        except RefusedError as refused:
            status = _refuse(f"{name}: {refused}")
            continue
        if not asked.small:
            write(report, name, FOLDER)
        print(as_markdown(report, f"python -m benchmarks {name}"))
        print(f"{name}: {time.perf_counter() - start:.0f} s\n", file=sys.stderr)
        missed += [f"{name}: {r.text} ({r.measured})" for r in report.missed if not asked.small]
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return status or int(bool(missed))


def measured_with(name: str, values: Mapping[str, object]) -> Report:
    """The report of a benchmark with other values of names; the module is afterwards as before."""
    module = _module(name)
    before = {each: getattr(module, each) for each in values}
    try:
        vars(module).update(values)
        return module.measure()
    finally:
        vars(module).update(before)


def measured_small(name: str) -> Report:
    """The report of a benchmark over less of everything."""
    return measured_with(name, _module(name).SMALL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure, and write docs/measurements/."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run (default: all)")
    parser.add_argument(
        "--small", action="store_true", help="run over less of everything and write nothing"
    )
    parser.add_argument(
        "--against",
        metavar="REV",
        help=f"git revision that {COMPARING} compares this checkout with",
    )
    return parser


def _refuse(reason: str) -> int:
    print(reason, file=sys.stderr)
    return 2


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name}")


if __name__ == "__main__":
    # accelerate warns of each card that this machine lacks; printing it must not count as planning.
    logging.getLogger("accelerate.utils.modeling").setLevel(logging.ERROR)
    sys.exit(main(sys.argv[1:]))
