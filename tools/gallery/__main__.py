"""``python -m tools.gallery [check] [MODEL ...]``: make the maps, or check those that are there.

Two processes, one model at a time in each.  Exit status 1 where something was found.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial

from devplan.checker.checking import check
from tools.gallery.index import FOLDER, INDEX, ROOT, gallery_maps, index_text
from tools.gallery.making import Made, make_row, write_if_new
from tools.gallery.refused import PAGE, broken_maps, page_text
from tools.gallery.rows import Gallery, Row, read_gallery

NUM_PROCESSES = 2


def main(arguments: list[str]) -> int:
    """Make or check, and say what became of each map."""
    start = time.monotonic()
    gallery = read_gallery()
    checks = arguments[:1] == ["check"]
    wanted = arguments[checks:]
    rows = [row for row in gallery.rows if not wanted or row.model in wanted]
    work = partial(check_row, gallery) if checks else partial(make_and_write, gallery)
    found = run(work, rows)
    if checks:
        found += [] if wanted else stale_files(gallery)
    else:
        INDEX.write_text(index_text(gallery, gallery_maps()), encoding="utf-8")
        PAGE.write_text(page_text(broken_maps()), encoding="utf-8")
    for problem in found:
        print(problem)
    worked = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = f"{time.monotonic() - start:.0f} s, {worked.ru_utime + worked.ru_stime:.0f} s of CPU"
    load = f"load of the machine {os.getloadavg()[1]:.1f}"
    print(f"{len(rows)} rows, {len(found)} problems, {took}, {load}", file=sys.stderr)
    return 1 if found else 0


def run(work: Callable[[Row], list[str]], rows: list[Row]) -> list[str]:
    """The problems of all rows; pipelines, which take longest, go first."""
    problems = []
    rows = sorted(rows, key=lambda row: not row.is_pipeline)
    with ProcessPoolExecutor(NUM_PROCESSES, initializer=_one_thread) as pool:
        waiting = {pool.submit(work, row): row for row in rows}
        for done in as_completed(waiting):
            problems += done.result()
            print(f"{waiting[done].label}: {done.result() or 'done'}", file=sys.stderr)
    return sorted(problems)


def _one_thread() -> None:
    """Each process has a core of its own."""
    import torch

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)


def make_and_write(gallery: Gallery, row: Row) -> list[str]:
    """Write the maps of a row; maps that no longer fit go."""
    made = make_row(gallery, row)
    kept = {each.path for each in made if each.path}
    for path in _files_of(row):
        if path not in kept:
            (ROOT / path).unlink()
    for each in made:
        if each.path:
            write_if_new(ROOT, each)
    return _problems(row, made)


def check_row(gallery: Gallery, row: Row) -> list[str]:
    """Plan the maps of a row again, compare, and run `devplan check` on each file."""
    made = make_row(gallery, row)
    problems = _problems(row, made)
    for each in made:
        if each.path:
            problems += _differs(each) or _check_findings(each)
    unmade = set(_files_of(row)) - {each.path for each in made}
    return problems + [f"{path}: is there, and `make maps` does not write it" for path in unmade]


def _problems(row: Row, made: list[Made]) -> list[str]:
    problems = [
        f"{each.model} on {each.gpus}: {each.status}"
        for each in made
        if each.status in ("does not run", "findings")
    ]
    if not any(each.path for each in made):
        problems.append(f"{row.label}: no machine holds it")
    return problems


def _differs(made: Made) -> list[str]:
    path = ROOT / made.path
    if not path.exists():
        return [f"{made.path}: is not there; `make maps` writes it"]
    if path.read_text(encoding="utf-8") != made.text:
        return [f"{made.path}: is not what is planned today; `make maps` writes it anew"]
    return []


def _check_findings(made: Made) -> list[str]:
    found = check(made.model, ROOT / made.path)
    return [f"{made.path}: {each.code} {each.message}" for each in found.errors]


def _files_of(row: Row) -> list[str]:
    """Maps of a row, by the name that its maps have."""
    paths = sorted(FOLDER.glob(f"{row.start}__*.yaml"))
    return [path.relative_to(ROOT).as_posix() for path in paths]


def stale_files(gallery: Gallery) -> list[str]:
    """What is wrong with the gallery as a whole."""
    maps = gallery_maps()
    labels = {row.label for row in gallery.rows}
    problems = [f"maps/{m.name}: its model is in no row" for m in maps if m.label not in labels]
    if INDEX.read_text(encoding="utf-8") != index_text(gallery, maps):
        problems.append("maps/README.md: is stale; `make maps` writes it anew")
    return problems


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
