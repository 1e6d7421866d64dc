"""``docs/measurements/published.md``: the errors by group, and every case."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median

from tabulate import tabulate

from tools.commit import commit
from tools.receipts.cases import read_sources
from tools.receipts.prediction import Comparison

PAGE = "docs/measurements/published.md"
GIB = 2**30
BOUNDS = (0.03, 0.05)
"""Errors whose share of cases is counted."""
NUM_WORST = 10

PROSE = """\
Others published how much memory models took on their GPUs. devplan predicted each of these cases
from the configuration of the model alone, without a GPU, on the commit below. devplan's authors
have measured nothing themselves. The error is *predicted / measured - 1*. Figures are in GiB,
over all GPUs together. A case counts if the measured release does what today's release does; the
others are listed separately with the difference. `make receipts` makes this page; the cases are in
`tools/receipts/cases.yaml`."""


def page_text(found: Sequence[Comparison]) -> str:
    """The page in markdown."""
    known = [each for each in found if each.predicted_bytes is not None]
    counted = [each for each in known if not each.case.differs]
    other = [each for each in known if each.case.differs]
    missing = [each for each in found if each.predicted_bytes is None]
    worst = sorted(counted, key=lambda each: -abs(each.error))[:NUM_WORST]
    parts = [
        "# Predictions and published measurements",
        PROSE,
        f"Made at commit {commit()} on {datetime.now(UTC):%Y-%m-%d}.",
        "## Errors by group",
        _table(_groups(counted)),
        f"## The {len(worst)} largest errors",
        _table([_row(each) for each in worst]),
        "## All cases that count",
        _table([_row(each) for each in counted]),
        "## Cases of older releases, and other figures",
        _table([{**_row(each), "what differed": each.case.differs} for each in other]),
    ]
    if missing:
        rows = [{"case": each.case.id, "reason": each.reason} for each in missing]
        parts += ["## Not compared", _table(rows)]
    parts += ["## Sources", _table(_sources())]
    return "\n\n".join(parts) + "\n"


def _groups(counted: Sequence[Comparison]) -> list[dict[str, str]]:
    names = list(dict.fromkeys(each.case.group for each in counted))
    rows = [_errors(name, [c for c in counted if c.case.group == name]) for name in names]
    return [*rows, _errors("all", counted)] if counted else []


def _errors(name: str, found: Sequence[Comparison]) -> dict[str, str]:
    errors = [abs(each.error) for each in found]
    within = {
        f"within {bound:.0%}": f"{sum(error <= bound for error in errors)} of {len(errors)}"
        for bound in BOUNDS
    }
    return {
        "group": name,
        "cases": str(len(errors)),
        "median error": f"{median(errors):.2%}",
        "largest": f"{max(errors):.2%}",
        **within,
    }


def _row(each: Comparison) -> dict[str, str]:
    assert each.predicted_bytes is not None
    return {
        "case": each.case.id,
        "measured": f"{each.case.measured_bytes / GIB:.2f}",
        "predicted": f"{each.predicted_bytes / GIB:.2f}",
        "error": f"{each.error:+.2%}",
        "source": each.case.source,
    }


def _sources() -> list[dict[str, str]]:
    return [
        {"source": key, "published in": found.where, "measured with": found.measured_with}
        for key, found in read_sources().items()
    ]


def _table(rows: Sequence[dict[str, str]]) -> str:
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
