"""``python -m tools.corpus [ID ...]``: try bugs, all or those named, and record what is seen."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tools.corpus.document import write_document
from tools.corpus.results import read_results, write_results
from tools.corpus.running import Outcome, catalogue, record, run_in

PARALLEL = min(2, os.cpu_count() or 1)
"""Checks at a time: each fills a core, and takes up to 3 GB of memory."""


def main(names: list[str]) -> int:
    """Run, tell, write ``results.yaml`` and ``docs/corpus.md``; 1 if a bug turned out otherwise
    than the catalogue says."""
    bugs = catalogue()
    if unknown := set(names) - {bug["id"] for bug in bugs}:
        print(f"no bug {', '.join(sorted(unknown))} in bugs.yaml", file=sys.stderr)
        return 2
    chosen = [b for b in bugs if (not names or b["id"] in names) and not b.get("untried")]
    results, surprises = read_results(), 0
    with ThreadPoolExecutor(PARALLEL) as pool:
        for bug, (buggy, fixed) in zip(chosen, pool.map(_both, chosen), strict=True):
            results[bug["id"]] = seen = record(bug, buggy, fixed)
            surprises += seen["caught"] != ("reason" not in bug)
            _tell(bug, seen, buggy, fixed)
            write_results(results)
    write_document()
    return 1 if surprises else 0


def _both(bug: Mapping[str, Any]) -> tuple[Outcome, Outcome]:
    return run_in(bug, bug["buggy"]), run_in(bug, bug["fixed"])


def _tell(bug: Mapping[str, Any], seen: Mapping[str, Any], *outcomes: Outcome) -> None:
    print(f"{bug['id']}: {'CAUGHT ' + str(seen['at']) if seen['caught'] else 'not caught'}")
    if seen["caught"]:
        return
    for version, outcome in zip((bug["buggy"], bug["fixed"]), outcomes, strict=True):
        print(f"    {version}: {outcome.failure or ', '.join(outcome.phases)}")
        for error in outcome.errors:
            print(f"        {error['code']} {error['op']} {error['at']} {error['message'][:160]}")
        for note in outcome.notes:
            print(f"        note: {note[:200]}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
