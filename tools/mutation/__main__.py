"""``make mutation``: a sample of mistakes, each tried; goes on where it was interrupted."""

from __future__ import annotations

import argparse
import datetime
import difflib
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.mutation import calls, trying
from tools.mutation.document import document
from tools.mutation.mutants import PARTS, Mutant, mutated, sample

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "mutation"
COPY = WORK / "copy"
LOG = WORK / "last_run.log"
PAGE = ROOT / "docs" / "measurements" / "mutation.md"
# Seconds for the tests of one mistake; and how much longer than usual a run may take.
_BUDGET = 300
_SLOWER, _GRACE = 3, 60
_MOST_SECONDS = 900


def main() -> int:
    options = _options()
    WORK.mkdir(parents=True, exist_ok=True)
    parts = tuple(options.only or PARTS)
    trying.import_heavy()
    trying.copy_of(ROOT, COPY)
    covered = _covered(options.fresh)
    mutants = sample(ROOT, parts, options.sample, options.seed)
    state = _state()
    journal = WORK / f"{state}-{options.seed}.jsonl"
    done = {each["name"]: each for each in _lines(journal)}
    for number, mutant in enumerate(mutants, 1):
        if mutant.name not in done:
            done[mutant.name] = _tried(mutant, covered)
            with journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps(done[mutant.name]) + "\n")
        said = "noticed" if done[mutant.name]["noticed"] else "NOT NOTICED"
        print(f"{number}/{len(mutants)} {said}: {_said(done[mutant.name])}", flush=True)
    results = [done[mutant.name] for mutant in mutants]
    if options.write:
        today = datetime.date.today().isoformat()
        page = document(results, parts, commit=_commit(), date=today, seed=options.seed)
        PAGE.write_text(page, encoding="utf-8")
    noticed = sum(each["noticed"] for each in results)
    print(f"{noticed} of {len(results)} mistakes were noticed")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.mutation", description=__doc__)
    parser.add_argument("--sample", type=int, default=100, help="how many mistakes")
    parser.add_argument("--seed", type=int, default=1, help="which mistakes")
    parser.add_argument("--only", action="append", help="a folder or file, repeatable")
    parser.add_argument("--fresh", action="store_true", help="look again which test calls what")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    return parser.parse_args()


def _covered(fresh: bool) -> dict[str, calls.Covered]:
    """What every test file calls, looked up where the file has changed since it was last looked."""
    kept = WORK / "calls.jsonl"
    if fresh:
        kept.unlink(missing_ok=True)
    known = {(each["file"], each["hash"]): each for each in _lines(kept)}
    found = {}
    for path in sorted((COPY / "tests").rglob("test_*.py")):
        name = path.relative_to(COPY).as_posix()
        key = (name, hashlib.sha256(path.read_bytes()).hexdigest())
        if key not in known:
            known[key] = _looked_up(*key)
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(known[key]) + "\n")
            print(f"{name}: {known[key]['seconds']:.0f} s", flush=True)
        each = known[key]
        found[name] = calls.Covered(
            seconds=each["seconds"], passed=each["passed"], called=frozenset(each["called"])
        )
    return found


def _looked_up(name: str, hashed: str) -> dict[str, Any]:
    into = WORK / "called.json"
    into.unlink(missing_ok=True)
    before = calls.noting(COPY, into)
    outcome = trying.run_tests(COPY, [name], _MOST_SECONDS, LOG, before)
    called = json.loads(into.read_text(encoding="utf-8")) if into.exists() else []
    passed = not outcome.noticed
    if not passed:
        print(f"{name}: exit status {outcome.code} without any mistake; not used", flush=True)
    return {
        "file": name,
        "hash": hashed,
        "seconds": round(outcome.seconds, 1),
        "passed": passed,
        "called": called,
    }


def _tried(mutant: Mutant, covered: dict[str, calls.Covered]) -> dict[str, Any]:
    """Make the mistake in the copy, run the tests that could notice it, take it back."""
    target = COPY / mutant.path
    original = target.read_text(encoding="utf-8")
    code = mutated(COPY, mutant)
    result: dict[str, Any] = {"name": mutant.name, "path": mutant.path, "by": "", "beside": False}
    result["before"], result["after"] = _difference(original, code)
    result["files"], spent = 0, 0.0
    target.write_text(code, encoding="utf-8")
    try:
        for file in calls.near(covered, mutant.path, mutant.function):
            usual = covered[file].seconds
            if spent + usual > _BUDGET and result["files"]:
                break
            limit = _SLOWER * usual + _GRACE
            outcome = trying.run_tests(COPY, [file], limit, LOG, None)
            result["files"] += 1
            spent += outcome.seconds
            if outcome.noticed:
                result["by"] = file
                result["beside"] = calls.is_beside(file, mutant.path)
                break
    finally:
        target.write_text(original, encoding="utf-8")
    return result | {"noticed": bool(result["by"])}


def _difference(before: str, after: str) -> tuple[str, str]:
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    sides = ([line[2:].strip() for line in lines if line.startswith(mark)] for mark in ("- ", "+ "))
    first, second = (" ".join(side) for side in sides)
    return first, second


def _said(result: dict[str, Any]) -> str:
    by = f" by {result['by']}" if result["by"] else f" by {result['files']} files"
    return f"{result['name']}{by}\n    - {result['before']}\n    + {result['after']}"


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


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
