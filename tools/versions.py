"""The same plans with other releases of transformers and accelerate: ``make versions``.

Every release gets an environment of its own (`tools.corpus.environments`).  In each, a few models
are planned and their maps checked, and the bytes are compared with those of the pinned release:
a field that a release renamed must not change a number in silence.  Writes ``docs/versions.md``.
Minutes, and the first time some hundred megabytes of packages.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devplan.io import write_text
from tools.commit import commit
from tools.corpus.environments import NoEnvironment, environment, pins_of, variables

PAGE = "docs/versions.md"
PINNED = "pinned"
RELEASES = ("4.45.2", "4.49.0", "4.53.1", "4.57.6", "5.0.0", "5.14.1", PINNED, "5.24.0")
"""The oldest that devplan supports, some between, the pinned one, and the newest."""

ROWS = (
    ("Qwen/Qwen2.5-7B-Instruct", "12GiB,8GiB"),
    ("Qwen/Qwen2-VL-7B-Instruct", "12GiB,10GiB"),
    ("Qwen/Qwen2.5-VL-7B-Instruct", "12GiB,10GiB"),
    ("google/gemma-3-4b-it", "8GiB,6GiB"),
    ("Qwen/Qwen3-30B-A3B", "40GiB,40GiB"),
    ("google/flan-t5-xxl", "40GiB,24GiB"),
)
"""Models and machines: text, two generations of vision models, sliding windows, experts, an encoder
with a decoder."""

TIMEOUT_S = 300
_TIMED_OUT = 124
_PARTS = {"weights": "weights_bytes", "buffers": "buffers_bytes", "KV cache": "kv_cache_bytes"}
_LARGEST = {"activations": "activations_bytes"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One model with one release."""

    said: str
    """``same``, or in which parts the bytes differ, or why there is no plan."""
    check: str = ""
    """What ``devplan check`` of the map says: ``clean``, or the codes of its errors."""

    def __str__(self) -> str:
        return f"{self.said}; {self.check}" if self.check else self.said


def planned(model: str, gpus: str, env: Mapping[str, str]) -> tuple[dict[str, Any] | None, Outcome]:
    """The plan of a model as ``suggest --json`` gives it, and what a check says of its map."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "map.yaml")
        made = _devplan(env, "suggest", model, "--gpus", gpus, "--json", "-o", path)
        if made.returncode:
            return None, Outcome(said=_reason(made))
        checked = _devplan(env, "check", path, "--format", "json")
        if checked.returncode == 0:
            return json.loads(made.stdout), Outcome(said="same", check="clean")
        found = _reason(checked)
        if checked.returncode == 1:
            (one,) = json.loads(checked.stdout)["maps"]
            errors = {each["code"] for each in one["findings"] if each["severity"] == "error"}
            found = ", ".join(sorted(errors))
        return json.loads(made.stdout), Outcome(said="same", check=found)


def _devplan(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "devplan", *arguments]
    try:
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        said = f"no answer within {TIMEOUT_S} s"
        return subprocess.CompletedProcess(command, _TIMED_OUT, stdout="", stderr=said)


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """Why there is no result: the class is newer than the release, or the line of the error."""
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    said = lines[-1].removeprefix("devplan: ")
    return "class not there" if "is not among the" in said else said


def compared(plan: Mapping[str, Any], pinned: Mapping[str, Any], outcome: Outcome) -> Outcome:
    """The outcome with the parts whose bytes differ from those of the pinned release."""
    here, there = parts_of(plan), parts_of(pinned)
    differ = [
        f"{part} {here[part] / there[part] - 1:+.1%}" if there[part] else f"{part} {here[part]:,} B"
        for part in here
        if here[part] != there[part]
    ]
    return Outcome(said=", ".join(differ), check=outcome.check) if differ else outcome


def parts_of(plan: Mapping[str, Any]) -> dict[str, int]:
    """Bytes by part: summed over the GPUs, so that another cut of the layers is no difference;
    of activations, which do not add up, those of the GPU that needs most."""
    devices = plan["prediction"].values()
    summed = {part: sum(device[key] for device in devices) for part, key in _PARTS.items()}
    return summed | {part: max(device[key] for device in devices) for part, key in _LARGEST.items()}


def try_release(release: str) -> dict[str, tuple[dict[str, Any] | None, Outcome]]:
    """Model -> plan and outcome, with a release of transformers."""
    folder = Path.cwd() if release == PINNED else environment(pins_of(release))
    env = variables(folder)
    return {model: planned(model, gpus, env) for model, gpus in ROWS}


def page_text(rows: Mapping[str, Sequence[str]]) -> str:
    """The table: a row a release, a column a model."""
    heads = ["transformers", *(model for model, _ in ROWS)]
    lines = [
        "<!-- Made by `make versions`. -->",
        "",
        "# Releases that were tried",
        "",
        f"Commit {commit()}. Each cell says whether the bytes of the plan (weights, buffers, KV",
        "cache and activations) equal those with the pinned release, and then what `devplan check`",
        "says of the map. accelerate, huggingface_hub and tokenizers are those that were current",
        "when the release came out; torch is the pinned one.",
        "",
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
    ]
    lines += [f"| {release} | {' | '.join(cells)} |" for release, cells in rows.items()]
    return "\n".join([*lines, ""])


def main() -> None:
    """Try every release and write the page."""
    found = {}
    for release in RELEASES:
        sys.stderr.write(f"{release}\n")
        try:
            found[release] = try_release(release)
        except NoEnvironment as error:
            sys.stderr.write(f"  {error}\n")
    rows = {}
    for release, models in found.items():
        rows[release] = [
            str(outcome if plan is None else compared(plan, found[PINNED][model][0], outcome))
            for model, (plan, outcome) in models.items()
        ]
    write_text(page_text(rows), PAGE)


if __name__ == "__main__":
    main()
