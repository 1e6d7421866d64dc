"""What a user waits for: the command line as whole processes, in time and memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.processes import Run, run
from benchmarks.report import Report, Requirement, Table
from devplan.core.units import GIB, MIB

NUM_ROUNDS = 5
NUM_WARM_UPS = 1
MOST_HELP_S = 0.3
MOST_ABOVE_IMPORT_S = 2.0
MOST_BYTES = int(1.5 * GIB)

SUGGESTED = (
    (
        "Qwen/Qwen2.5-VL-72B-Instruct",
        "from transformers import Qwen2_5_VLForConditionalGeneration",
        "2x80GiB",
    ),
    ("meta-llama/Llama-3.1-70B-Instruct", "from transformers import LlamaForCausalLM", "2x80GiB"),
)

SMALL = {"NUM_WARM_UPS": 0, "NUM_ROUNDS": 1, "SUGGESTED": SUGGESTED[1:]}

PROSE = f"""
Whole processes, taken in turns, {NUM_ROUNDS} rounds after one that is thrown away: wall time from
start to end, median and best (the requirements look at the best), processor time, and the largest
resident memory.
The bare import is a process that imports torch, transformers and the class of the model, and
nothing else; what `devplan suggest` takes above it is its own: it reads the catalogue, builds the
skeleton, runs it virtually, plans, and writes a map.
"""


def measure() -> Report:
    """Help, and suggest beside the bare import."""
    with tempfile.TemporaryDirectory() as folder:
        runs = _in_turns(_commands(folder))
    rows = [_row(name, found) for name, found in runs.items()]
    requirements = [_help_is_quick(runs), _help_without_torch()]
    for id, *_ in SUGGESTED:
        requirements += _suggest_requirements(id, runs)
    return Report(
        title="The command line",
        prose=PROSE,
        tables=(Table(title="Processes", rows=rows),),
        requirements=requirements,
    )


def _commands(folder: str) -> dict[str, list[str]]:
    python = sys.executable
    commands = {"devplan --help": [python, "-m", "devplan", "--help"]}
    for id, statement, gpus in SUGGESTED:
        commands[_import_name(id)] = [python, "-c", f"import torch, transformers; {statement}"]
        words = ["suggest", id, "--gpus", gpus, "--context", "32768", "--force"]
        commands[_suggest_name(id)] = [python, "-m", "devplan", *words, "-o", f"{folder}/map.yaml"]
    return commands


def _import_name(id: str) -> str:
    return f"bare import for {id.partition('/')[2]}"


def _suggest_name(id: str) -> str:
    return f"devplan suggest {id.partition('/')[2]}"


def _in_turns(commands: Mapping[str, Sequence[str]]) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for turn in range(NUM_WARM_UPS + NUM_ROUNDS):
        for name, command in commands.items():
            found = run(command)
            if turn >= NUM_WARM_UPS:  # the first round fills the file cache and writes byte code
                runs[name].append(found)
    return runs


def _row(name: str, runs: Sequence[Run]) -> dict:
    return {
        "process": name,
        "median s": f"{median(each.wall_s for each in runs):.2f}",
        "best s": f"{_best_s(runs):.2f}",
        "least CPU s": f"{min(each.cpu_s for each in runs):.2f}",
        "peak MiB": f"{max(each.peak_bytes for each in runs) / MIB:.0f}",
    }


def _best_s(runs: Sequence[Run]) -> float:
    """What else the machine does only lengthens a run."""
    return min(each.wall_s for each in runs)


def _help_is_quick(runs: Mapping[str, Sequence[Run]]) -> Requirement:
    seconds = _best_s(runs["devplan --help"])
    return Requirement(
        text=f"devplan --help under {MOST_HELP_S} s",
        measured=f"{seconds:.2f} s",
        met=seconds < MOST_HELP_S,
    )


def _help_without_torch() -> Requirement:
    command = [sys.executable, "-X", "importtime", "-m", "devplan", "--help"]
    trace = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    modules = {line.rpartition("|")[2].strip() for line in trace.splitlines()}
    heavy = sorted(modules & {"torch", "transformers", "accelerate", "numpy", "networkx"})
    return Requirement(
        text="devplan --help without torch, transformers, accelerate, numpy, networkx",
        measured=f"imports {', '.join(heavy)}" if heavy else "imports none of them",
        met=not heavy,
    )


def _suggest_requirements(id: str, runs: Mapping[str, Sequence[Run]]) -> list[Requirement]:
    suggest, bare = runs[_suggest_name(id)], runs[_import_name(id)]
    above_s = _best_s(suggest) - _best_s(bare)
    peak = max(each.peak_bytes for each in suggest)
    return [
        Requirement(
            text=f"{_suggest_name(id)}: at most {MOST_ABOVE_IMPORT_S:.0f} s above the bare import",
            measured=f"{above_s:.2f} s",
            met=above_s <= MOST_ABOVE_IMPORT_S,
        ),
        Requirement(
            text=f"{_suggest_name(id)}: peak memory under {MOST_BYTES / GIB} GiB",
            measured=f"{peak / GIB:.2f} GiB",
            met=peak < MOST_BYTES,
        ),
    ]
