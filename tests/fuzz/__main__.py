"""Fuzz devplan, and write ``docs/measurements/robustness.md``.

    python -m tests.fuzz                             20,000 inputs of a fresh seed, and the page
    python -m tests.fuzz --inputs 500 --seed x       others; an interrupted run of a seed goes on
    python -m tests.fuzz --seed x --only 17          one input: what it is and what is said
    python -m tests.fuzz --seed x --minimise         what failed, as small files for tests/attacks

Every input follows from the seed and its number.  Ends with status 1 when one failed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.attacks import guard
from tests.attacks.attack import dump_attack, load_attacks
from tests.attacks.zygote import warm_up
from tests.fuzz.inputs import make_input
from tests.fuzz.minimise import minimised, signature
from tests.fuzz.page import page_of, setting
from tests.fuzz.working import Result, run_all, run_input
from tools.commit import commit

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "fuzz"
PAGE = ROOT / "docs" / "measurements" / "robustness.md"
INPUTS = 20_000


def main(arguments: list[str]) -> int:
    asked = _arguments(arguments)
    seed = asked.seed or f"{datetime.datetime.now():%Y%m%d%H%M%S}"
    with tempfile.TemporaryDirectory(prefix="devplan-fuzz-home-") as home:
        _be_ready(home)
        return _do(asked, seed)


def _do(asked: argparse.Namespace, seed: str) -> int:
    if asked.only is not None:
        return _show(seed, asked.only)
    file = asked.kept / f"{seed}.jsonl"
    known = _known(file)
    if asked.minimise:
        return _minimise(seed, known)
    missing = [number for number in range(asked.inputs) if number not in known]
    print(f"seed {seed}: {len(known)} of {asked.inputs} inputs are known", flush=True)
    asked.kept.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as kept:
        for result in run_all(seed, missing, asked.processes):
            known[result.number] = result
            print(json.dumps(asdict(result)), file=kept, flush=True)
            if result.found:
                print(f"{result.number} ({result.kind}): {'; '.join(result.found)}", flush=True)
    results = [known[number] for number in range(asked.inputs)]
    failed = sum(bool(result.found) for result in results)
    print(f"{len(results)} inputs of seed {seed}, {failed} failed")
    if asked.page:
        PAGE.write_text(_page(results, seed), encoding="utf-8")
    return 1 if failed else 0


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("--seed", default="")
    parser.add_argument("--only", type=int)
    parser.add_argument("--minimise", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kept", type=Path, default=KEPT)
    parser.add_argument("--no-page", dest="page", action="store_false")
    return parser.parse_args(arguments)


def _be_ready(home: str) -> None:
    """Everything that inputs need is imported once, before the first copy of this process."""
    import os

    os.environ.update(HF_HOME=home, OMP_NUM_THREADS="1", HF_HUB_DISABLE_TELEMETRY="1")
    warm_up()
    guard.arm()


def _known(file: Path) -> dict[int, Result]:
    if not file.exists():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines()
    results = [Result(**json.loads(line)) for line in lines if line.endswith("}")]
    return {result.number: result for result in results}


def _show(seed: str, number: int) -> int:
    kind, content = make_input(seed, number)
    for name, text in content.get("files", {}).items():
        print(f"--- {name}\n{str(text)[:3000]}")
    print(f"--- {kind}: {content['run']}")
    with tempfile.TemporaryDirectory() as folder:
        outcome, found = run_input(content, Path(folder) / "world")
    print(outcome.out[-3000:], outcome.err[-3000:], sep="\n")
    print(f"status {outcome.status}, {outcome.seconds} s, {outcome.peak_mib} MiB", *found, sep="\n")
    return 1 if found else 0


def _minimise(seed: str, known: dict[int, Result]) -> int:
    """One small file for each thing that was wrong."""
    seen: set[str] = set()
    for number, result in sorted(known.items()):
        if not result.found or signature(result.found) in seen:
            continue
        wanted = signature(result.found)
        seen.add(wanted)
        _, content = make_input(seed, number)
        with tempfile.TemporaryDirectory() as folder:

            def fails(candidate, folder=folder, wanted=wanted) -> bool:
                _, found = run_input(candidate, Path(folder) / "world")
                return bool(found) and signature(found) == wanted

            small = minimised(content, fails) if fails(content) else content
        path = KEPT / f"{seed}-{number}.yaml"
        what = f"Input {number} of seed {seed} is handled well: {result.found[0][:100]}."
        dump_attack(path, {"what": what, **small, "must": {"status": [0, 1, 2]}})
        print(f"{path}: {result.found[0][:200]}")
    return 0


def _page(results: list[Result], seed: str) -> str:
    return page_of(
        results,
        seed=seed,
        commit=commit(),
        date=f"{datetime.date.today():%Y-%m-%d}",
        setting=setting(),
        attacks=len(load_attacks()),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
