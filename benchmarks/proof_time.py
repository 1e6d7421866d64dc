"""How long ``devplan suggest`` takes with its proof, after imports, and how much memory.

Each suggestion runs in a process of its own (`benchmarks.one_suggest`), the best of several.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.report import Report, Requirement, Table
from devplan.core.units import GIB

NUM_PROCESSES = 3
CASES = (
    ("Qwen/Qwen2.5-VL-72B-Instruct", "80GiB,48GiB,48GiB,24GiB", 8192),
    ("meta-llama/Llama-3.1-70B-Instruct", "4x48GiB", 8192),
    ("Qwen/Qwen3-235B-A22B", "8x80GiB", 8192),
    ("deepseek-ai/DeepSeek-V3", "16x80GiB", 8192),
    ("moonshotai/Kimi-K2-Thinking", "32x80GiB", 8192),
)
"""Model, machine, context."""
MOST_S = 10.0
"""For the first case: what devplan asks of itself."""

SMALL = {"CASES": CASES[1:2], "NUM_PROCESSES": 1}

PROSE = f"""
Wall seconds of `suggest` in a process that has imported everything and made one small suggestion:
read the catalogue, build the class on the meta device, run it virtually for sizes, cache and
activations, plan, run the plan split over the cards, judge the run. The best of {NUM_PROCESSES}
processes, and the largest peak memory of a process, imports included. Beside it, in the same
process: building the class and asking transformers for its `auto` map, which proves nothing.
"""


def measure() -> Report:
    """One row a case."""
    runs = {case: _best(*case) for case in CASES}
    first = runs[CASES[0]]
    return Report(
        title="Time of a proven suggestion",
        prose=PROSE,
        tables=(Table(title="Suggestions", rows=[_row(case, run) for case, run in runs.items()]),),
        requirements=[
            Requirement(
                text=f"{CASES[0][0].partition('/')[2]} on {CASES[0][1]}: under {MOST_S:.0f} s",
                measured=f"{first['wall_s']:.1f} s, {first['status']}",
                met=first["wall_s"] < MOST_S and first["status"] == "clean",
            )
        ],
    )


def _best(model: str, gpus: str, tokens: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.one_suggest", model, gpus, str(tokens)]
    runs = []
    for _ in range(NUM_PROCESSES):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    best = min(runs, key=lambda run: run["wall_s"])
    return {**best, "peak_bytes": max(run["peak_bytes"] for run in runs)}


def _row(case: tuple[str, str, int], run: Mapping[str, Any]) -> dict[str, str]:
    model, gpus, tokens = case
    return {
        "model": model.partition("/")[2],
        "cards": gpus.replace("GiB", ""),
        "context": f"{tokens:,}",
        "verification": run["status"],
        "constraints learnt": str(run["constraints"]),
        "wall s": f"{run['wall_s']:.2f}",
        "peak GiB": f"{run['peak_bytes'] / GIB:.2f}",
        "class and auto map, s": f"{run['peer_s']:.2f}",
        "times": f"{run['wall_s'] / run['peer_s']:.0f}",
    }
