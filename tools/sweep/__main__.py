"""Check every model type on two virtual cards, and write ``docs/coverage.md``.

    python -m tools.sweep                  all types; goes on where it was interrupted
    python -m tools.sweep llama bert       these types anew, into the kept rows
    python -m tools.sweep --page           only the page, from the rows that are kept

Ends with status 1 when a finding has no reading, a reading has no finding, or too few types ran.
"""

from __future__ import annotations

import sys
from pathlib import Path

from devplan.core.units import format_bytes
from devplan.mapfile.of_plan import installed_versions
from tools.commit import commit
from tools.sweep.gather import FEW_LAYERS, LIMIT_S, ROOT, Store, fingerprint, gather
from tools.sweep.packages import package_versions
from tools.sweep.readings import load_readings
from tools.sweep.row import Row
from tools.sweep.table import page_of, problems
from tools.sweep.universe import model_classes, model_types
from tools.sweep.worker import MEMORY_LIMIT_BYTES

ROWS = ROOT / "build" / "sweep.jsonl"
PAGE = ROOT / "docs" / "coverage.md"


def main(arguments: list[str]) -> int:
    classes = model_classes()
    store = Store(path=ROWS, fingerprint=fingerprint())
    only_page = arguments == ["--page"]
    known = store.rows(any_fingerprint=bool(arguments))
    missing = [name for name in classes if name not in known]
    wanted = [] if only_page else arguments or missing
    for row in gather(classes, wanted):
        store.add(row)
        known[row.model_type] = row
        print(_line(row), flush=True)
    missing = [name for name in classes if name not in known]
    if missing:
        print(f"{len(missing)} types have no row yet, {missing[0]} among them; no page is written")
        return 1
    return _write({name: known[name] for name in classes}, PAGE)


def _write(rows: dict[str, Row], page: Path) -> int:
    readings = load_readings()
    page.write_text(page_of(rows, readings, _facts()), encoding="utf-8")
    found = problems(rows, readings)
    print("\n".join(found) or "nothing is left to read")
    return 1 if found else 0


def _facts() -> dict[str, str]:
    """The setting, for the page."""
    versions = installed_versions("transformers")
    versions.pop("devplan")
    libraries = _listed({**versions, **package_versions()})
    with_class = model_classes()
    without = [name for name in model_types() if name not in with_class]
    return {
        "layers": str(FEW_LAYERS),
        "setting": f"Measured at commit {commit()} with {libraries}; at most {LIMIT_S} s and "
        f"{format_bytes(MEMORY_LIMIT_BYTES)} of address space a type. Again: `make sweep`.",
        "without class": f"{len(without)} configurations have no class in the tables of the auto "
        f"classes, most are parts of another type: {', '.join(without)}.",
    }


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _line(row: Row) -> str:
    places = ", ".join(sorted({f"{finding.place} {finding.op}" for _, finding in row.findings}))
    what = " | ".join(filter(None, (places, row.reason)))
    changed = ", ".join(row.changed)
    return f"{row.model_type:30} {row.outcome.value:20} {row.seconds:5} s  {changed}  {what}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
