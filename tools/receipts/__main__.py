"""``python -m tools.receipts``: predict every published case and write the page."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from devplan.io import write_text
from tools.receipts.cases import Case, read_cases
from tools.receipts.page import PAGE, page_text
from tools.receipts.prediction import Comparison, compared


def main() -> int:
    """Minutes on two cores."""
    with tempfile.TemporaryDirectory() as folder:
        found = [_compared(case, Path(folder)) for case in read_cases()]
    write_text(PAGE, page_text(found))
    return 0


def _compared(case: Case, folder: Path) -> Comparison:
    found = compared(case, folder)
    said = f"{found.error:+.2%}" if found.predicted_bytes is not None else found.reason
    print(f"{case.id}: {said}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
