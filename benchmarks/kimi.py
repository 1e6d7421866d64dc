"""A model of 1T parameters: how long a proven answer takes, and how much memory.

Kimi-K2-Thinking stores its experts in INT4 (compressed-tensors); transformers 5 unpacks them while
loading.  Both are asked: what transformers loads, and the packed weights of an engine that keeps
them so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.report import Report, Requirement, Table
from devplan.core.units import GIB

MODEL = "moonshotai/Kimi-K2-Thinking"
TOKENS = 8192
NUM_PROCESSES = 2
CASES = (
    ("8x80GiB", ()),
    ("8x80GiB", ("packed",)),
    ("16x80GiB", ()),
    ("16x80GiB", ("packed",)),
    ("24xh200", ()),
)
"""Machine, and whether the weights stay packed."""
MOST_S = 15.0
MOST_BYTES = 3 * GIB

SMALL = {"CASES": CASES[:1], "NUM_PROCESSES": 1}

PROSE = f"""
Seconds of `suggest` for {MODEL} at {TOKENS:,} tokens, in a process that has imported
everything and made one small suggestion, the best of {NUM_PROCESSES} processes, and the largest
peak memory of one, imports included. Where the answer is a plan, it was run virtually on the
machine's cards, prefill and two decode steps, before it was given. *As loaded*: transformers 5
unpacks the INT4 experts to bfloat16 while it loads them; *packed* (`--packed`): they stay as they
are stored, which an engine with INT4 kernels does and `from_pretrained` of transformers 5 does not.
Beside it, in the same process: building the class and asking transformers for its `auto` map, which
proves nothing.

*CPU s* are the seconds of the process, with those of all its threads: what it takes on idle cores,
at most. *Wall s* hold what else the machine did meanwhile.
"""


def measure() -> Report:
    """One row a case."""
    runs = {case: _best(*case) for case in CASES}
    slowest = max(runs.values(), key=lambda run: run["cpu_s"])
    largest = max(run["peak_bytes"] for run in runs.values())
    unproven = [
        case for case, run in runs.items() if run["status"] not in ("clean", "does not fit")
    ]
    return Report(
        title="A model of 1T parameters",
        prose=PROSE,
        tables=(Table(title="Answers", rows=[_row(case, run) for case, run in runs.items()]),),
        requirements=[
            Requirement(
                text=f"every answer under {MOST_S:.0f} s after imports",
                measured=f"{slowest['cpu_s']:.1f} s of CPU",
                met=slowest["cpu_s"] < MOST_S,
            ),
            Requirement(
                text=f"under {MOST_BYTES // GIB} GiB of memory",
                measured=f"{largest / GIB:.2f} GiB",
                met=largest < MOST_BYTES,
            ),
            Requirement(
                text="every plan proven by its run",
                measured=f"{len(unproven)} are not",
                met=not unproven,
            ),
        ],
    )


def _best(gpus: str, packed: tuple[str, ...]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.one_suggest", MODEL, gpus, str(TOKENS), *packed]
    runs = []
    for _ in range(NUM_PROCESSES):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    best = min(runs, key=lambda run: run["cpu_s"])
    return {**best, "peak_bytes": max(run["peak_bytes"] for run in runs)}


def _row(case: tuple[str, tuple[str, ...]], run: dict[str, Any]) -> dict[str, str]:
    gpus, packed = case
    return {
        "cards": gpus,
        "weights": "packed" if packed else "as loaded",
        "answer": run["answer"],
        "run": run["status"],
        "CPU s": f"{run['cpu_s']:.2f}",
        "wall s": f"{run['wall_s']:.2f}",
        "peak GiB": f"{run['peak_bytes'] / GIB:.2f}",
        "class and auto map, s": f"{run['peer_s']:.2f}",
        "times": f"{run['wall_s'] / run['peer_s']:.0f}",
    }
