"""``python -m tools.receipts``: predict every published case and write the page."""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from devplan.io import write_text
from tools.receipts.cases import read_cases
from tools.receipts.page import PAGE, page_text
from tools.receipts.prediction import Comparison, compared

NUM_PROCESSES = 2


def main() -> int:
    """Minutes on two cores."""
    spawned = ProcessPoolExecutor(NUM_PROCESSES, mp_context=get_context("spawn"))
    with tempfile.TemporaryDirectory() as folder, spawned as pool:
        results = pool.map(partial(compared, folder=Path(folder)), read_cases())
        found = [_told(each) for each in results]
    write_text(page_text(found), PAGE)
    return 0


def _told(found: Comparison) -> Comparison:
    said = f"{found.error:+.2%}" if found.predicted_bytes is not None else found.reason
    print(f"{found.case.id}: {said}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
