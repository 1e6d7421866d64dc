"""Hold `devplan check` against real runs of every model type, and write ``docs/differential.md``.

    python -m tools.differential                  all types; goes on where it was interrupted
    python -m tools.differential llama bert       these types anew, into the kept rows
    python -m tools.differential --page           only the page, from the rows that are kept

Two types at a time.  Ends with status 1 when a disagreement has no explanation, an explanation no
disagreement, or too little agrees.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import warnings
from dataclasses import replace
from pathlib import Path

from devplan.core.units import format_bytes
from devplan.mapfile.of_plan import installed_versions
from tools.commit import commit, commits
from tools.differential.explained import load_explanations
from tools.differential.gather import LIMIT_S, MEMORY_LIMIT_BYTES, gather
from tools.differential.judge import disagreements
from tools.differential.page import page_of, problems
from tools.differential.row import Row, row_of
from tools.sweep.gather import ROOT, Store, fingerprint
from tools.sweep.universe import model_classes

ROWS = ROOT / "build" / "differential.jsonl"
LOG = ROOT / "build" / "differential.log"
PAGE = ROOT / "docs" / "differential.md"
NUM_PROCESSES = 2
SEED = 13
_CODE = ("devplan", "tools/differential", "tools/sweep")


def main(arguments: list[str]) -> int:
    classes = model_classes()
    store = Store(path=ROWS, fingerprint=fingerprint(_CODE), read=row_of)
    only_page = arguments == ["--page"]
    known = store.rows(any_fingerprint=bool(arguments))
    missing = [name for name in classes if name not in known]
    random.Random(SEED).shuffle(missing)
    wanted = [] if only_page else arguments or missing
    ROWS.parent.mkdir(exist_ok=True)
    _quiet()
    here = commit()
    for row in gather(classes, wanted, processes=NUM_PROCESSES, log=LOG):
        row = replace(row, commit=here)
        store.add(row)
        known[row.model_type] = row
        print(_line(row), flush=True)
    return _write({name: known[name] for name in classes if name in known}, PAGE, len(classes))


def _quiet() -> None:
    """One thread a process, and no word of the models' on the terminal."""
    import torch

    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


def _write(rows: dict[str, Row], page: Path, num_types: int) -> int:
    explanations = load_explanations()
    page.write_text(page_of(rows, explanations, _setting(rows, num_types)), encoding="utf-8")
    found = problems(rows, explanations)
    print("\n".join(found) or "check and reality agree")
    return 1 if found else 0


def _setting(rows: dict[str, Row], num_types: int) -> str:
    versions = installed_versions("transformers")
    versions.pop("devplan")
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    measured = commits(row.commit for row in rows.values())
    return (
        f"{len(rows)} of {num_types} types. Measured at commits: {measured}; with {libraries}; at "
        f"most {LIMIT_S} s of the processor and {format_bytes(MEMORY_LIMIT_BYTES)} of address "
        "space a type. Again: `make differential`."
    )


def _line(row: Row) -> str:
    found = " | ".join(
        f"{each.map}, {each.way}: {each.kind.value}: {each.what[:120]} {each.place}"
        for each in disagreements(row)
    )
    return f"{row.model_type:30} {row.stage.value:8} {row.seconds:5} s  {row.reason[:200]} {found}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
