"""``python -m tools.gallery [check] [MODEL ...]``: make the maps, or check those that are there.

Two processes, one model at a time in each.  Exit status 1 where something was found.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from devplan.checker.checking import check
from tools.gallery.index import INDEX, in_order, index_text
from tools.gallery.making import Made, make_row, write_if_new
from tools.gallery.refused import PAGE, broken_maps, page_text
from tools.gallery.rows import Gallery, Row, read_gallery
from tools.gallery.table import (
    FOLDER,
    ROOT,
    TABLE,
    Line,
    differences,
    read_table,
    table_text,
)

NUM_PROCESSES = 2


def main(arguments: list[str]) -> int:
    """Make or check, and say what became of each map."""
    start = time.monotonic()
    gallery = read_gallery()
    checks = arguments[:1] == ["check"]
    wanted = arguments[checks:]
    rows = [row for row in gallery.rows if not wanted or row.model in wanted]
    work = partial(check_row, gallery) if checks else partial(make_and_write, gallery)
    made, found = run(work, rows)
    if checks:
        found += [] if wanted else stale_files(gallery)
    else:
        write_pages(gallery, made, {row.label for row in rows})
    for problem in found:
        print(problem)
    worked = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = f"{time.monotonic() - start:.0f} s, {worked.ru_utime + worked.ru_stime:.0f} s of CPU"
    load = f"load of the machine {os.getloadavg()[1]:.1f}"
    print(f"{len(rows)} rows, {len(found)} problems, {took}, {load}", file=sys.stderr)
    return 1 if found else 0


Outcome = tuple[list[Line], list[str]]
"""Lines of maps that were made, and problems."""


def run(work: Callable[[Row], Outcome], rows: list[Row]) -> Outcome:
    """The lines and problems of all rows; pipelines, which take longest, go first."""
    lines, problems = [], []
    rows = sorted(rows, key=lambda row: not row.is_pipeline)
    with ProcessPoolExecutor(NUM_PROCESSES, initializer=_one_thread) as pool:
        waiting = {pool.submit(work, row): row for row in rows}
        for done in as_completed(waiting):
            made, found = done.result()
            lines += made
            problems += found
            print(f"{waiting[done].label}: {found or 'done'}", file=sys.stderr)
    return lines, sorted(problems)


def _one_thread() -> None:
    """Each process has a core of its own."""
    import torch

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)


def make_and_write(gallery: Gallery, row: Row) -> Outcome:
    """Write the maps of a row that are kept; maps that no longer fit go."""
    made = make_row(gallery, row)
    kept = {each.path: each for each in made if each.is_kept}
    for path in _files_of(row):
        if path not in kept:
            (ROOT / path).unlink()
    for each in kept.values():
        write_if_new(ROOT, each)
    return _lines(made), _problems(row, made)


def write_pages(gallery: Gallery, made: list[Line], labels: set[str]) -> None:
    """Write the table, with the lines of these rows made anew, and the two indexes."""
    other = [line for line in read_table() if line.model not in labels] if TABLE.exists() else []
    lines = in_order(gallery, [*other, *made])
    TABLE.write_text(table_text(lines), encoding="utf-8")
    INDEX.write_text(index_text(gallery, lines), encoding="utf-8")
    PAGE.write_text(page_text(broken_maps()), encoding="utf-8")


def check_row(gallery: Gallery, row: Row) -> Outcome:
    """Plan the maps of a row again, compare, and run `devplan check` on each of them."""
    made = make_row(gallery, row)
    problems = _problems(row, made) + _changed_lines(row, made)
    with tempfile.TemporaryDirectory() as folder:
        for each in made:
            if each.line is not None:
                problems += _differs(each) or _check_findings(each, Path(folder))
    unmade = set(_files_of(row)) - {each.path for each in made if each.is_kept}
    problems += [f"{path}: is there, and `make maps` does not write it" for path in unmade]
    return _lines(made), problems


def _lines(made: list[Made]) -> list[Line]:
    return [each.line for each in made if each.line is not None]


def _problems(row: Row, made: list[Made]) -> list[str]:
    problems = [
        f"{each.model} on {each.gpus}: {each.status}"
        for each in made
        if each.status in ("does not run", "findings")
    ]
    if not any(each.path for each in made):
        problems.append(f"{row.label}: no machine holds it")
    missing = set(row.files) - {each.gpus for each in made if each.is_kept}
    return problems + [
        f"{row.label} on {gpus}: its file is to be kept, and none is made" for gpus in missing
    ]


def _changed_lines(row: Row, made: list[Made]) -> list[str]:
    """What the table says differently."""
    old = {line.gpus: line for line in read_table() if line.model == row.label}
    new = {line.gpus: line for line in _lines(made)}
    return [text for gpus in {**old, **new} for text in differences(old.get(gpus), new.get(gpus))]


def _differs(made: Made) -> list[str]:
    path = ROOT / made.path
    if not made.is_kept:
        return []
    if not path.exists():
        return [f"{made.path}: is not there; `make maps` writes it"]
    if path.read_text(encoding="utf-8") != made.text:
        return [f"{made.path}: is not what is planned today; `make maps` writes it anew"]
    return []


def _check_findings(made: Made, folder: Path) -> list[str]:
    path = folder / Path(made.path).name
    path.write_text(made.text, encoding="utf-8")
    found = check(made.model, path)
    return [f"{made.path}: {each.code} {each.message}" for each in found.errors]


def _files_of(row: Row) -> list[str]:
    """Maps of a row, by the name that its maps have."""
    paths = sorted(FOLDER.glob(f"{row.start}__*.yaml"))
    return [path.relative_to(ROOT).as_posix() for path in paths]


def stale_files(gallery: Gallery) -> list[str]:
    """What is wrong with the gallery as a whole."""
    lines = read_table()
    labels = {row.label for row in gallery.rows}
    problems = [f"maps/table.csv: {m.model} is in no row" for m in lines if m.model not in labels]
    named = {line.file for line in lines if line.file}
    there = {path.name for path in FOLDER.glob("*.yaml")}
    problems += [f"maps/{name}: is in no line of the table" for name in sorted(there - named)]
    if problems:
        return problems
    if TABLE.read_text(encoding="utf-8") != table_text(in_order(gallery, lines)):
        problems.append("maps/table.csv: is not in order; `make maps` writes it anew")
    if INDEX.read_text(encoding="utf-8") != index_text(gallery, lines):
        problems.append("maps/README.md: is stale; `make maps` writes it anew")
    return problems


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
