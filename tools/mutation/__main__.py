"""``make mutation``: a sample of mistakes, each tried; goes on where it was interrupted."""

from __future__ import annotations

import argparse
import datetime
import difflib
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.commit import commit
from tools.mutation import calls, trying
from tools.mutation.document import document
from tools.mutation.mutants import PARTS, Mutant, mutated, sample

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "mutation"
COPY = WORK / "copy"
LOG = WORK / "last_run.log"
RUNS = WORK / "runs"
PAGE = ROOT / "docs" / "measurements" / "mutation.md"
# How much longer than usual a run of tests may take.
_SLOWER, _GRACE = 3, 60
_MOST_SECONDS = 900


def main() -> int:
    options = _options()
    WORK.mkdir(parents=True, exist_ok=True)
    parts = tuple(options.only or PARTS)
    trying.import_heavy()
    trying.copy_of(ROOT, COPY)
    copied = commit()  # work may go on while this runs
    mutants = sample(COPY, parts, options.sample, options.seed)
    tests = _Tests(fresh=options.fresh, far=tuple(options.also) if options.near else ("tests",))
    which = "".join(f"-{each}" for each in ("near", *options.also)) if options.near else ""
    which += f"-{options.budget}s"
    journal = WORK / f"{_state()}-{options.seed}{which.replace('/', '.')}.jsonl"
    done = {each["name"]: each for each in _lines(journal)}
    for number, mutant in enumerate(mutants, 1):
        if mutant.name not in done:
            done[mutant.name] = _tried(mutant, tests, options.budget)
            _add_line(journal, done[mutant.name])
        said = "noticed" if done[mutant.name]["noticed"] else "NOT NOTICED"
        print(f"{number}/{len(mutants)} {said}: {_said(done[mutant.name])}", flush=True)
    results = [done[mutant.name] for mutant in mutants]
    if not options.only:
        today = datetime.date.today().isoformat()
        near = " and ".join(("of its subpackage", *options.also))
        about = {"commit": copied, "date": today, "seed": options.seed}
        about["tests"] = f"{near if options.near else 'all'}, {options.budget} s"
        _keep({**about, "parts": parts, "results": results})
        kept = [json.loads(each.read_text(encoding="utf-8")) for each in sorted(RUNS.glob("*"))]
        PAGE.write_text(document(kept), encoding="utf-8")
    print(f"{sum(each['noticed'] for each in results)} of {len(results)} mistakes were noticed")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.mutation", description=__doc__)
    parser.add_argument("--sample", type=int, default=100, help="how many mistakes")
    parser.add_argument("--seed", type=int, default=1, help="which mistakes")
    parser.add_argument("--only", action="append", help="a folder or file; nothing is written")
    parser.add_argument("--near", action="store_true", help="only the tests of its subpackage")
    parser.add_argument(
        "--also", action="append", default=[], help="with --near: a folder or file of tests more"
    )
    parser.add_argument("--budget", type=int, default=300, help="seconds of tests for a mistake")
    parser.add_argument("--fresh", action="store_true", help="look again which test calls what")
    return parser.parse_args()


class _Tests:
    """The test files that could notice a mistake, each looked up when it is first asked for."""

    def __init__(self, *, fresh: bool, far: tuple[str, ...]) -> None:
        """`far` are the folders and files of tests beside those of a function's subpackage."""
        self._kept = WORK / "calls.jsonl"
        if fresh:
            self._kept.unlink(missing_ok=True)
        self._far = far
        # A file that failed is looked up again: what it failed by may lie in another one.
        self._known = {
            (each["file"], each["hash"]): each for each in _lines(self._kept) if each["passed"]
        }
        found = sorted((COPY / "tests").rglob("test_*.py"))
        self._hashes = {
            path.relative_to(COPY).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in found
        }

    def calling(self, mutant: Mutant) -> Iterator[tuple[str, float]]:
        """(file, seconds that it takes) of what calls a function, its subpackage's first."""
        beside = [name for name in self._hashes if calls.is_beside(name, mutant.path)]
        far = [
            name
            for name in self._hashes
            if name not in beside and any(_is_below(name, each) for each in self._far)
        ]
        call = f"{mutant.path}:{mutant.function}"
        for names in (beside, far):
            looked_up = [(name, self._look_up(name)) for name in names]
            each_calling = [
                (name, each["seconds"])
                for name, each in looked_up
                if each["passed"] and call in each["called"]
            ]
            yield from sorted(each_calling, key=lambda pair: pair[1])

    def _look_up(self, name: str) -> dict[str, Any]:
        key = (name, self._hashes[name])
        if key not in self._known:
            self._known[key] = _looked_up(*key)
            _add_line(self._kept, self._known[key])
        return self._known[key]


def _is_below(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder.rstrip('/')}/")


def _keep(run: dict[str, Any]) -> None:
    """The page is of all runs that are kept: of this commit and of those before it."""
    RUNS.mkdir(exist_ok=True)
    name = f"{run['date']}-{run['commit']}-{run['seed']}.json"
    (RUNS / name).write_text(json.dumps(run), encoding="utf-8")


def _looked_up(name: str, hashed: str) -> dict[str, Any]:
    """What a test file calls where nothing is wrong."""
    into = WORK / "called.json"
    into.unlink(missing_ok=True)
    outcome = trying.run_tests(COPY, [name], _MOST_SECONDS, LOG, calls.noting(COPY, into))
    called = json.loads(into.read_text(encoding="utf-8")) if into.exists() else []
    passed = outcome.code in (trying.NOTHING_FAILED, trying.NO_TESTS)
    failed = "" if passed else f": exit status {outcome.code} without any mistake; it is not used"
    print(f"looked up {name}, {outcome.seconds:.0f} s{failed}", flush=True)
    seconds = round(outcome.seconds, 1)
    return {"file": name, "hash": hashed, "seconds": seconds, "passed": passed, "called": called}


def _tried(mutant: Mutant, tests: _Tests, budget_s: int) -> dict[str, Any]:
    """Make the mistake in the copy, run the tests that could notice it, take it back."""
    calling = tests.calling(mutant)
    target = COPY / mutant.path
    original = target.read_text(encoding="utf-8")
    code = mutated(COPY, mutant)
    result: dict[str, Any] = {"name": mutant.name, "path": mutant.path, "by": "", "beside": False}
    result["before"], result["after"] = _difference(original, code)
    result["files"], spent = 0, 0.0
    for file, usual in calling:
        if spent + usual > budget_s and result["files"]:
            break
        target.write_text(code, encoding="utf-8")
        try:
            outcome = trying.run_tests(COPY, [file], _SLOWER * usual + _GRACE, LOG, None)
        finally:
            target.write_text(original, encoding="utf-8")
        result["files"] += 1
        spent += outcome.seconds
        if outcome.noticed:
            result["by"], result["beside"] = file, calls.is_beside(file, mutant.path)
            break
    return result | {"noticed": bool(result["by"])}


def _difference(before: str, after: str) -> tuple[str, str]:
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    sides = ([line[2:].strip() for line in lines if line.startswith(mark)] for mark in ("- ", "+ "))
    first, second = (" ".join(side) for side in sides)
    return first, second


def _said(result: dict[str, Any]) -> str:
    by = f" by {result['by']}" if result["by"] else f" by {result['files']} files"
    return f"{result['name']}{by}\n    - {result['before']}\n    + {result['after']}"


def _add_line(path: Path, content: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(content) + "\n")


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _state() -> str:
    """Of the code and the tests: results of another state are not taken over."""
    hashed = hashlib.sha256()
    for folder in ("devplan", "tests"):
        for path in sorted((COPY / folder).rglob("*.py")):
            hashed.update(path.read_bytes())
    return hashed.hexdigest()[:12]


if __name__ == "__main__":
    sys.exit(main())
