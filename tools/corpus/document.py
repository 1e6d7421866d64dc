"""``docs/corpus.md``: the bugs, and what became of each, from the catalogue and the results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.commit import commits
from tools.corpus.environments import ROOT
from tools.corpus.results import read_results
from tools.corpus.running import catalogue, lines_of

FILE = ROOT / "docs" / "corpus.md"

_HEAD = """\
# Real bugs, and whether `devplan check` finds them

Written by `make corpus` (`make corpus CORPUS="id id"` for some); not to be edited. Each bug was
tried in the last release that has it and in the first that has not, with the same model, map and
inputs, the model's own code and the accelerate of that time. **Caught** means: flagged at its line
in the one, and no error in the other. Facts and sources stand in
[bugs.yaml](../tools/corpus/bugs.yaml), the runs in [results.yaml](../tools/corpus/results.yaml).
"""


_BEFORE = "62a4d70 or an earlier one"
"""The last commit whose results do not say which code they are of."""


def document_text() -> str:
    """The whole page."""
    bugs, results = catalogue(), read_results()
    caught = [bug for bug in bugs if results.get(bug["id"], {}).get("caught")]
    missed = [bug for bug in bugs if bug not in caught]
    ops = sorted({results[bug["id"]]["op"] for bug in caught})
    parts = [
        _HEAD,
        f"{len(caught)} of {len(bugs)} bugs are caught, over {len(ops)} ops: "
        + ", ".join(f"`{op}`" for op in ops)
        + ".\n",
        f"Tried at commits: {commits(each.get('commit', _BEFORE) for each in results.values())}.\n",
        "## Caught\n",
        _table(caught, results),
    ]
    if noted := [bug for bug in caught if bug.get("also")]:
        parts += ["## Other bugs that the fixed release shows with the same map\n", _others(noted)]
    if missed:
        parts += ["## Not caught, and why\n", _reasons(missed)]
    return "\n".join(parts)


def _table(bugs: list[Mapping[str, Any]], results: Mapping[str, Any]) -> str:
    rows = ["| bug | last with it | first without | op | flagged at | in the fixed release |"]
    rows.append("|---|---|---|---|---|---|")
    for bug in bugs:
        seen = results[bug["id"]]
        place = seen["at"].removeprefix("transformers/models/").removeprefix("transformers/")
        fixed = seen["fixed"].partition(";")[0]
        if seen["fixed_findings"]:
            fixed += ", see below"
        package = bug.get("package", "transformers")
        name = "" if package == "transformers" else f"{package} "
        row = (bug["id"], f"{name}{bug['buggy']}", bug["fixed"], f"`{seen['op']}`", f"`{place}`")
        rows.append(f"| {' | '.join((*row, fixed))} |")
    return "\n".join(rows) + "\n"


def _others(bugs: list[Mapping[str, Any]]) -> str:
    lines = [
        f"* **{bug['id']}**, `{entry['at']}` of {bug['fixed']}: {entry['why']}"
        for bug in bugs
        for entry in bug["also"]
    ]
    return "\n".join(lines) + "\n"


def _reasons(bugs: list[Mapping[str, Any]]) -> str:
    lines = [
        f"* **{bug['id']}** ({bug['buggy']}, `{bug['file']}:{lines_of(bug)[0]}`): "
        f"{bug.get('reason', 'not tried yet.')}"
        for bug in bugs
    ]
    return "\n".join(lines) + "\n"


def write_document() -> None:
    """Write the page."""
    FILE.write_text(document_text(), encoding="utf-8")
