"""How long a check takes, beside a plain forward without GPUs, and how it grows with the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from transformers import AutoConfig

from benchmarks.models import machine
from benchmarks.report import Report, Requirement, Table
from benchmarks.timing import best_times_ms
from devplan.checker.preparation import prepare
from devplan.checker.results import result_of
from devplan.checker.run_options import RunOptions
from devplan.checker.running import run_prepared
from devplan.core.findings import CheckResult
from devplan.core.units import GIB
from devplan.core.workload import Workload
from devplan.models.resolution import resolve
from devplan.rules.context import CheckContext
from devplan.virtual.calls import DECODE_STEPS

LLAMA = "meta-llama/Llama-3.1-70B-Instruct"
TOKENS = 2048
WORKLOAD = Workload(batch=1, context=TOKENS + DECODE_STEPS + 1, dtype="bfloat16")
GPUS = "2x80GiB"
NUM_ROUNDS = 7
NUM_WARM_UPS = 1
FEW_LAYERS, MANY_LAYERS = 8, 80
LARGE = (
    ("Qwen/Qwen2.5-VL-72B-Instruct", "Qwen2_5_VLForConditionalGeneration", "2x80GiB"),
    ("deepseek-ai/DeepSeek-V3", "DeepseekV3ForCausalLM", "16x141GiB"),
)
MOST_S = {"Qwen/Qwen2.5-VL-72B-Instruct": 2.0, "deepseek-ai/DeepSeek-V3": 3.0}
MOST_TIMES_ALONE = 2.0
NUM_PROCESSES = 3

MOST_FULL, MOST_FOLDED, MOST_GROWTH = 2.0, 1.0, 1.5
MOST_BYTES = 2 * GIB

SMALL = {
    "NUM_WARM_UPS": 0,
    "NUM_ROUNDS": 1,
    "NUM_PROCESSES": 1,
    "LARGE": LARGE[:1],
    "MANY_LAYERS": 9,
}

PROSE = f"""
*Forward*: the skeleton of Llama-3.1-70B at full size and {TOKENS:,} tokens, in one process, the
ways in turns, the best of {NUM_ROUNDS} rounds in processor time. The bare forward is
`model(input_ids=...)` on the meta device, with no mode active; `FakeTensorMode` runs it with fake
tensors on one device (the CPU, as a CPU build of PyTorch has no other) and records nothing.
devplan's times are those of a check of a map over two cards of 80 GiB: making the inputs,
accelerate's hooks, the run with all records, undoing it, and all rules.

*Large models*: a process for each, which imports what is needed and runs a small model first; then
`devplan.check` is timed from the name of the model to the findings, the skeleton and accelerate's
`auto` map included: every run that the check makes by default, the first of them `generate` with
{TOKENS:,} text tokens (and an image of 1,040 where the model sees) and {DECODE_STEPS} decode steps.
*Alone* is the same check with `--run generate`, in the same process. Best of {NUM_PROCESSES}
processes; memory is the largest of the whole process.

*Layers*: Llama-3.1-70B with {FEW_LAYERS} and with {MANY_LAYERS} layers, split in the middle over
two cards. *Command* is the whole process of `devplan check`, what a user waits for; *check* is
`devplan.check` in a process that has all imports behind it, and *run* the part of it that is
neither building the skeleton nor reading the map.
"""


def measure() -> Report:
    """The three parts."""
    forward = best_times_ms(_forward_ways(), NUM_ROUNDS)
    large = {id: _large(id, *rest) for id, *rest in LARGE}
    growth = _growth()
    return Report(
        title="Speed of a check",
        prose=PROSE,
        tables=(
            Table(title="Forward", rows=_forward_rows(forward)),
            Table(title="Large models", rows=[_large_row(*item) for item in large.items()]),
            Table(title="Layers", rows=growth),
        ),
        requirements=[
            *_forward_requirements(forward),
            *(requirement for item in large.items() for requirement in _large_bounds(*item)),
            _growth_requirement(growth),
        ],
    )


# -------------------------------------------------------------------------------------- forward


def _forward_ways() -> dict[str, Callable[[], object]]:
    prepared = prepare(LLAMA, "auto", machine=machine(GPUS), workload=WORKLOAD)
    model = prepared.skeleton.model
    return {
        "bare forward on meta": partial(_bare, model),
        "FakeTensorMode, one device, no records": _fake_way(model),
        "devplan check --full": partial(_checked, prepared, RunOptions(run="forward", full=True)),
        "devplan check, folded": partial(_checked, prepared, RunOptions(run="forward")),
    }


def _bare(model: nn.Module) -> None:
    ids = torch.ones(1, TOKENS, dtype=torch.int64, device="meta")
    with torch.no_grad():
        model(input_ids=ids)


def _fake_way(model: nn.Module) -> Callable[[], object]:
    mode = FakeTensorMode()
    with mode:
        tensors = {
            name: torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
            for name, tensor in (*model.named_parameters(), *model.named_buffers())
        }

    def forward() -> None:
        with mode, torch.no_grad():
            ids = torch.ones(1, TOKENS, dtype=torch.int64)
            functional_call(model, tensors, (), {"input_ids": ids})

    return forward


def _checked(prepared: CheckContext, options: RunOptions) -> CheckResult:
    """What `devplan.check` does with a prepared subject."""
    record, reason = run_prepared(prepared, options)
    assert record is not None and record.error is None, reason
    assert record.transfers and record.peaks
    return result_of(replace(prepared, runs=(record,)))


def _forward_rows(times: Mapping[str, float]) -> list[dict]:
    bare = times["bare forward on meta"]
    return [
        {"way": name, "CPU s": f"{ms / 1e3:.2f}", "ratio": f"{ms / bare:.2f}"}
        for name, ms in times.items()
    ]


def _forward_requirements(times: Mapping[str, float]) -> list[Requirement]:
    bare = times["bare forward on meta"]
    full, folded = times["devplan check --full"] / bare, times["devplan check, folded"] / bare
    return [
        Requirement(
            text=f"forward, --full: at most {MOST_FULL} times the bare forward",
            measured=f"{full:.2f}",
            met=full <= MOST_FULL,
        ),
        Requirement(
            text=f"forward, folded: less than {MOST_FOLDED} of the bare forward",
            measured=f"{folded:.2f}",
            met=folded < MOST_FOLDED,
        ),
    ]


# --------------------------------------------------------------------------------- large models


def _in_process(command: Sequence[str]) -> tuple[float, int, str]:
    """Wall seconds, peak bytes and output of a process."""
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    assert process.returncode in (0, 1), f"{' '.join(command)}: {text}"  # 1: findings
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): kilobytes but on macOS
    return seconds, usage.ru_maxrss * unit, text


def _large(model: str, class_name: str, gpus: str) -> dict[str, Any]:
    """The best of several processes, and the largest peak."""
    command = [sys.executable, "-m", "benchmarks.one_check", model, class_name, gpus]
    runs = []
    for _ in range(NUM_PROCESSES):
        _, peak_bytes, text = _in_process(command)
        runs.append({**json.loads(text), "peak_bytes": peak_bytes})
    best = min(runs, key=lambda run: run["wall_s"])
    assert best["error"] is None and len(best["phases"]) == 1 + DECODE_STEPS, best
    return {**best, "peak_bytes": max(run["peak_bytes"] for run in runs)}


def _large_row(model: str, run: Mapping[str, Any]) -> dict:
    return {
        "model": model.partition("/")[2],
        "inputs": run["inputs"],
        "phases": ", ".join(run["phases"]),
        "transfers": str(run["transfers"]),
        "runs": str(len(run["runs"])),
        "wall s": f"{run['wall_s']:.2f}",
        "alone, s": f"{run['alone_s']:.2f}",
        "peak GiB": f"{run['peak_bytes'] / GIB:.2f}",
    }


def _large_bounds(model: str, run: Mapping[str, Any]) -> list[Requirement]:
    name = model.partition("/")[2]
    return [
        Requirement(
            text=f"{name}: under {MOST_S[model]:.0f} s",
            measured=f"{run['wall_s']:.2f} s",
            met=run["wall_s"] < MOST_S[model],
        ),
        Requirement(
            text=f"{name}: all runs at most {MOST_TIMES_ALONE} times generate alone",
            measured=f"{run['wall_s'] / run['alone_s']:.2f}",
            met=run["wall_s"] <= MOST_TIMES_ALONE * run["alone_s"],
        ),
        Requirement(
            text=f"{name}: peak memory under {MOST_BYTES // GIB} GiB",
            measured=f"{run['peak_bytes'] / GIB:.2f} GiB",
            met=run["peak_bytes"] < MOST_BYTES,
        ),
    ]


# --------------------------------------------------------------------------------------- layers


def _growth() -> list[dict[str, float | str]]:
    """Seconds with few and with many layers: the command, the call, the run in it."""
    with tempfile.TemporaryDirectory() as folder:
        numbers = (FEW_LAYERS, MANY_LAYERS)
        commands = {n: _command(Path(folder), n) for n in numbers}
        walls: dict[int, list[float]] = {n: [] for n in numbers}
        for _ in range(NUM_WARM_UPS + NUM_PROCESSES):  # the first round fills the file cache
            for n in numbers:
                walls[n].append(_in_process(commands[n])[0])
    found = [("command, generate", {n: min(walls[n][NUM_WARM_UPS:]) for n in numbers})]
    for run in ("generate", "forward"):
        options = RunOptions(run=run)
        subjects = {n: _prepared(n) for n in numbers}
        calls = {n: partial(_whole_check, n, options) for n in numbers}
        runs = {n: partial(_checked, subjects[n], options) for n in numbers}
        for part, ways in (("check", calls), ("run", runs)):
            times = best_times_ms({str(n): way for n, way in ways.items()}, NUM_ROUNDS)
            found.append((f"{part}, {run}", {n: times[str(n)] / 1e3 for n in numbers}))
    return [{"time of": name, **_growth_cells(seconds)} for name, seconds in found]


def _growth_cells(seconds: Mapping[int, float]) -> dict[str, str]:
    few, many = seconds[FEW_LAYERS], seconds[MANY_LAYERS]
    return {
        f"{FEW_LAYERS} layers, s": f"{few:.3f}",
        f"{MANY_LAYERS} layers, s": f"{many:.3f}",
        "ratio": f"{many / few:.2f}",
        "ms a further layer": f"{1e3 * (many - few) / (MANY_LAYERS - FEW_LAYERS):.2f}",
    }


def _growth_requirement(rows: Sequence[Mapping[str, str]]) -> Requirement:
    ratio = float(rows[0]["ratio"])
    return Requirement(
        text=f"the command: {MANY_LAYERS} layers at most {MOST_GROWTH} times the time of "
        f"{FEW_LAYERS} layers",
        measured=f"{ratio:.2f}",
        met=ratio <= MOST_GROWTH,
    )


def _config(num_layers: int) -> dict[str, Any]:
    return {**resolve(LLAMA).config, "num_hidden_layers": num_layers}


def _device_map(num_layers: int) -> dict[str, int]:
    layers = {f"model.layers.{n}": int(n >= num_layers // 2) for n in range(num_layers)}
    return {"model.embed_tokens": 0, "model.rotary_emb": 0, **layers, "model.norm": 1, "lm_head": 1}


def _prepared(num_layers: int) -> CheckContext:
    config = AutoConfig.for_model(**_config(num_layers))
    return prepare(config, _device_map(num_layers), machine=machine(GPUS), workload=WORKLOAD)


def _whole_check(num_layers: int, options: RunOptions) -> CheckResult:
    return _checked(_prepared(num_layers), options)


def _command(folder: Path, num_layers: int) -> list[str]:
    model = folder / str(num_layers)
    model.mkdir()
    (model / "config.json").write_text(json.dumps(_config(num_layers)))
    map_file = folder / f"{num_layers}.json"
    map_file.write_text(json.dumps(_device_map(num_layers)))
    words = ["check", str(map_file), "--model", str(model), "--gpus", GPUS]
    words += ["--context", str(WORKLOAD.tokens)]
    return [sys.executable, "-m", "devplan", *words]
