"""``python -m tools.corpus.patched [ID ...]``: which bugs the embedding patch cures.

Each bug that is caught is run in the last release that has it, without the patch and with it.  What
was seen is kept in ``patched.yaml``, from which ``docs/measurements/patched_bugs.md`` is written.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import yaml

from tools.commit import commit, commits
from tools.corpus.__main__ import PARALLEL
from tools.corpus.environments import HERE, ROOT, NoEnvironment, environment, variables
from tools.corpus.results import read_results
from tools.corpus.running import TIMEOUT_S, catalogue, pins_for

FILE = ROOT / "docs" / "measurements" / "patched_bugs.md"
SEEN = HERE / "patched.yaml"

_HEAD = """\
# Real bugs that the embedding patch cures

Written by `python -m tools.corpus.patched`; not to be edited. Each bug of
[the corpus](../corpus.md) that `devplan check` catches, at full size, in the last release that has
it, with the map that shows it: `devplan.needed_patch` runs it virtually without the patch and,
where a device mismatch stops it, with the input embedding patched (output where its ids are, then
on the main device), then with every embedding whose output met other tensors. **Cured**: nothing
stops the model any more.
"""


_BEFORE = "9c169cd or an earlier one"
"""The last commit whose results do not say which code they are of."""


def main(names: list[str]) -> int:
    """Run, tell, and keep."""
    bugs = [bug for bug in _caught() if not names or bug["id"] in names]
    seen = yaml.safe_load(SEEN.read_text(encoding="utf-8")) if SEEN.exists() else {}
    with ThreadPoolExecutor(PARALLEL) as pool:
        for bug, advice in zip(bugs, pool.map(_advice, bugs), strict=True):
            print(f"{bug['id']}: {_verdict(advice)}", flush=True)
            seen[bug["id"]] = {**advice, "commit": commit()}
            SEEN.write_text(yaml.safe_dump(seen), encoding="utf-8")
            FILE.write_text(_text(seen), encoding="utf-8")
    return 0


def _caught() -> list[Mapping[str, Any]]:
    results = read_results()
    return [bug for bug in catalogue() if results.get(bug["id"], {}).get("caught")]


def _advice(bug: Mapping[str, Any]) -> dict[str, Any]:
    try:
        folder = environment(pins_for(bug, bug["buggy"]))
    except NoEnvironment as error:
        return {"failure": str(error)}
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [sys.executable, "-m", "tools.corpus.worker", "patch"],
            input=json.dumps(bug),
            capture_output=True,
            text=True,
            timeout=4 * TIMEOUT_S,
            env=variables(folder),
            cwd=empty,
        )
    if done.returncode:
        return {"failure": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    return json.loads(done.stdout)


def _verdict(advice: Mapping[str, Any]) -> str:
    if "failure" in advice:
        return f"not run: {advice['failure']}"
    if not advice["names"]:
        return "no: other tensors are in the wrong place"
    if advice["after"]:
        return f"in part: {len(advice['after'])} of {len(advice['before'])} findings stay"
    return "**cured**"


def _text(seen: Mapping[str, Mapping[str, Any]]) -> str:
    caught = _caught()
    tried = [(bug, seen[bug["id"]]) for bug in caught if bug["id"] in seen]
    cured = [advice for _, advice in tried if _verdict(advice) == "**cured**"]
    left = len(caught) - len(tried)
    rows = ["| bug | release | what is patched | output | with the patch |"]
    rows.append("|---|---|---|---|---|")
    for bug, advice in sorted(tried, key=lambda item: _verdict(item[1])):
        package = bug.get("package", "transformers")
        names = ", ".join(f"`{name}`" for name in advice.get("names", ())) or "-"
        where = advice.get("device") or "where its ids are" if names != "-" else "-"
        release = bug["buggy"] if package == "transformers" else f"{package} {bug['buggy']}"
        rows.append(f"| {bug['id']} | {release} | {names} | {where} | {_verdict(advice)} |")
    count = f"{len(cured)} of {len(tried)} are cured; {left} of {len(caught)} were not tried yet.\n"
    tried_at = commits(advice.get("commit", _BEFORE) for _, advice in tried)
    count += f"Tried at commits: {tried_at}.\n"
    return "\n".join([_HEAD, count, *rows]) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
