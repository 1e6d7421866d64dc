"""How long ``devplan suggest`` takes for a diffusers pipeline, with its proof, and how much memory.

Each suggestion runs in a process of its own (`benchmarks.one_pipeline`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.report import Report, Requirement, Table
from devplan.core.units import GIB

CASES = (
    ("tencent/HunyuanVideo-1.5", "3x24GiB", "bfloat16", "tiled"),
    ("black-forest-labs/FLUX.1-dev", "2x24GiB", "bfloat16", "whole"),
    ("Wan-AI/Wan2.2-T2V-A14B", "2x48GiB", "bfloat16", "whole"),
    ("Wan-AI/Wan2.2-TI2V-5B", "2x24GiB", "bfloat16", "whole"),
    ("Qwen/Qwen-Image", "2x48GiB", "bfloat16", "whole"),
)
"""Pipeline, machine, dtype, how its autoencoder decodes."""
MOST_BYTES = 3 * GIB
"""Of any of them: what devplan asks of itself."""

SMALL = {"CASES": CASES[1:2]}

PROSE = """
Seconds of the processor that `suggest` takes in a process that has imported everything: the models
of the pipeline on the meta device, its own code run virtually at the size that it makes by default
(prompt, three denoising steps, decoding) for order and activations, the plan, the same run over the
cards of the plan, and its findings. Beside it, in the same process: building the same classes on
the meta device. What takes longest is code of the models: the autoencoder of HunyuanVideo-1.5
writes a mask row by row, in Python, for every position of a tile.
"""


def measure() -> Report:
    """One row a pipeline."""
    runs = {case: _run(case) for case in CASES}
    largest = max(run["peak_bytes"] for run in runs.values())
    return Report(
        title="Time of a proven suggestion for a pipeline",
        prose=PROSE,
        tables=(Table(title="Suggestions", rows=[_row(case, run) for case, run in runs.items()]),),
        requirements=[
            Requirement(
                text="every map clean",
                measured=", ".join(run["status"] for run in runs.values()),
                met=all(run["status"] == "clean" for run in runs.values()),
            ),
            Requirement(
                text=f"at most {MOST_BYTES / GIB:.0f} GiB of memory",
                measured=f"{largest / GIB:.2f} GiB",
                met=largest <= MOST_BYTES,
            ),
        ],
    )


def _run(case: tuple[str, str, str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.one_pipeline", *case]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _row(case: tuple[str, str, str, str], run: Mapping[str, Any]) -> dict[str, str]:
    model, gpus, _, tiling = case
    height, width = run["size"]
    frames = f"{run['frames']} x " if run["frames"] else ""
    return {
        "pipeline": model.partition("/")[2],
        "cards": gpus.replace("GiB", ""),
        "makes": f"{frames}{height} x {width}",
        "decodes": tiling,
        "verification": run["status"],
        "CPU s": f"{run['cpu_s']:.1f}",
        "peak GiB": f"{run['peak_bytes'] / GIB:.2f}",
        "building the classes, s": f"{run['build_s']:.2f}",
        "times": f"{run['cpu_s'] / run['build_s']:.0f}",
    }
