"""What the transfer cache saves, and what it costs where there is nothing to save."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from statistics import median

import torch
from accelerate import dispatch_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import devplan
from benchmarks.cached_run import CachedRun, run_cached
from benchmarks.report import Report, Requirement, Table
from benchmarks.timing import best_times_ms
from devplan.checker.preparation import context_of
from devplan.core.device_map import device_map_of
from devplan.core.findings import RunRecord
from devplan.core.units import GIB, MIB
from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.workflows.comparison import BY_HAND, STRATEGIES, peers_of
from devplan.workflows.evaluation import built_of
from devplan.workflows.profiled_model import study
from devplan.workflows.suggesting import suggest_studied

CASES = (
    ("Qwen/Qwen2.5-VL-72B-Instruct", "4x48GiB"),
    ("Qwen/Qwen2.5-VL-7B-Instruct", "24GiB,12GiB"),
    ("meta-llama/Llama-3.1-70B-Instruct", "4x48GiB"),
    ("Qwen/Qwen3-235B-A22B", "8x80GiB"),
    ("mistralai/Mixtral-8x7B-v0.1", "4x48GiB"),
    ("google/gemma-3-27b-it", "4x24GiB"),
    ("google/flan-t5-xxl", "2x24GiB"),
    ("meta-llama/Llama-3.2-11B-Vision-Instruct", "2x24GiB"),
    ("black-forest-labs/FLUX.1-dev/transformer", "2x24GiB"),
)
TOKENS = 4096
AUTO, DEVPLAN = STRATEGIES[0], "devplan"

SIZES = ((64, 8), (512, 8), (1024, 4))
"""Width and layers of the models that are timed."""
PROMPT_TOKENS = 128
NUM_ROUNDS = 30
FORWARDS_A_ROUND = 3
MOST_TIMES = 1.02
"""What the issue asks: a forward never takes more than two per cent longer."""

SMALL = {"CASES": CASES[1:2], "SIZES": SIZES[:1], "NUM_ROUNDS": 1}

PROSE = f"""
*Copies*: every map is run virtually at full size, {TOKENS:,} tokens, prefill and two decode steps
(one forward where the class does not generate), every layer by itself, with accelerate's real hooks
and without and with the cache. Copies and bytes are those that hooks asked for, by the record of
the virtual machine; that the cache's own counters say the same is required. *auto* is the map of
`device_map="auto"` (accelerate's where transformers has no planner for the class), *devplan* the
one that `devplan suggest` writes. *Peak* is how much more the fullest moment of any card holds: a
copy lives as long as its tensor, where a layer without the cache drops it at its own end.

*Time*: a Llama with real weights on the CPU, all of it on one device, with the hooks that
`dispatch_model` puts on every module, in one process, with and without the cache in turns, each
first in every other round; the median over {NUM_ROUNDS} rounds of {FORWARDS_A_ROUND} forwards in
processor time, one thread, and of the ratios of the rounds. Nothing is copied, so the cache can
only cost. Ratios below 1 are since accelerate's own walk through the arguments, and its decorator,
take longer than those of the cache.
"""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A map of a model, run with and without."""

    model: str
    gpus: str
    planner: str
    run: CachedRun


def measure() -> Report:
    """Copies of real models at full size, and times of small ones."""
    cells = [cell for case in CASES for cell in _cells(*case)]
    with _one_thread():
        times = [_times(*size, tokens) for size in SIZES for tokens in (1, PROMPT_TOKENS)]
    return Report(
        title="Transfer cache",
        prose=PROSE,
        tables=(
            Table(title="Copies", rows=[_row(cell) for cell in cells]),
            Table(title="Time", rows=times),
        ),
        requirements=[_largest(cells), _true_counters(cells), _never_more(cells), _time(times)],
    )


# ---------------------------------------------------------------------------------------- copies


def _cells(id: str, gpus: str) -> Iterator[Cell]:
    print(id, file=sys.stderr, flush=True)
    machine = parse_gpus(gpus)
    studied = study(id, Workload(context=TOKENS, dtype="bfloat16"), [machine])
    built = built_of(studied)
    peers = dict(peers_of(studied))
    name = AUTO if AUTO in peers else BY_HAND
    maps = {name: peers[name](machine)}
    suggested = suggest_studied(studied, machine, pins={}).map_file
    if suggested is not None:
        maps[DEVPLAN] = suggested.device_map
    for name, device_map in maps.items():
        subject = context_of(built, device_map_of(device_map, name), machine=machine)
        run = run_cached(subject)
        yield Cell(model=id.partition("/")[2], gpus=gpus.replace("GiB", ""), planner=name, run=run)


def _by_hooks(record: RunRecord, phase: str | None = None) -> tuple[int, int]:
    """Copies and bytes that hooks asked for, in a phase or in all."""
    events = [
        event
        for event in record.transfers
        if event.asked_by == "hook" and phase in (None, event.phase)
    ]
    return sum(e.count for e in events), sum(e.count * e.num_bytes for e in events)


def _row(cell: Cell) -> dict[str, str]:
    without, record = cell.run.without, cell.run.record
    first, *later = record.phases or ("-",)
    row = {"model": cell.model, "cards": cell.gpus, "map": cell.planner}
    row |= _change("prefill", without, record, first)
    row |= _change("decode", without, record, later[0] if later else None)
    return row | {"peak": f"+{_peak_growth(cell.run) / GIB:.2f} GiB"}


def _change(title: str, without: RunRecord, record: RunRecord, phase: str | None) -> dict[str, str]:
    if phase is None:
        return {f"{title}, copies": "-", f"{title}, MiB": "-"}
    before, before_bytes = _by_hooks(without, phase)
    after, after_bytes = _by_hooks(record, phase)
    return {
        f"{title}, copies": f"{before} -> {after}",
        f"{title}, MiB": f"{before_bytes / MIB:.2f} -> {after_bytes / MIB:.2f}",
    }


def _peak_growth(run: CachedRun) -> int:
    before = {peak.device: peak.peak_bytes for peak in run.without.peaks}
    return max(peak.peak_bytes - before[peak.device] for peak in run.record.peaks)


def _largest(cells: list[Cell]) -> Requirement:
    cell = cells[0]
    before, after = (_by_hooks(each, "prefill")[0] for each in (cell.run.without, cell.run.record))
    return Requirement(
        text=f"{cell.model} on {cell.gpus}, {cell.planner}: a tenth of the copies of a forward",
        measured=f"{before} -> {after}",
        met=0 < 10 * after <= before,
    )


def _true_counters(cells: list[Cell]) -> Requirement:
    wrong = [
        cell
        for cell in cells
        if (counts := cell.run.counts)
        and (
            (counts.num_asked, counts.asked_bytes) != _by_hooks(cell.run.without)
            or (counts.num_made, counts.made_bytes) != _by_hooks(cell.run.record)
        )
    ]
    return Requirement(
        text="the cache's counters say what the virtual machine recorded",
        measured=f"{len(cells) - len(wrong)} of {len(cells)} maps",
        met=not wrong,
    )


def _never_more(cells: list[Cell]) -> Requirement:
    more = [c for c in cells if _by_hooks(c.run.record) > _by_hooks(c.run.without)]
    return Requirement(
        text="never more copies than without", measured=f"{len(more)} maps with more", met=not more
    )


# ------------------------------------------------------------------------------------------ time


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _times(width: int, num_layers: int, tokens: int) -> dict[str, str]:
    model, ids = _on_one_device(width, num_layers), torch.arange(tokens)[None]

    def forwards() -> None:
        with torch.no_grad():
            for _ in range(FORWARDS_A_ROUND):
                model(ids)

    without, with_cache = [], []
    for number in range(NUM_ROUNDS):
        # [order] what runs second finds memory and caches as the first left them
        for cached in (number % 2 == 0, number % 2 == 1):
            with devplan.cache_transfers(model) if cached else nullcontext():
                took = best_times_ms({"": forwards}, 1)[""] / FORWARDS_A_ROUND
            (with_cache if cached else without).append(took)
    ratios = [b / a for a, b in zip(without, with_cache, strict=True)]
    return {
        "width": str(width),
        "layers": str(num_layers),
        "tokens": str(tokens),
        "ms a forward without": f"{median(without):.2f}",
        "with": f"{median(with_cache):.2f}",
        "ratio": f"{median(ratios):.3f}",
    }


def _on_one_device(width: int, num_layers: int) -> nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=num_layers,
        num_attention_heads=8,
        num_key_value_heads=4,
    )
    model = LlamaForCausalLM(config).eval()
    names = ["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"]
    layers = [f"model.layers.{number}" for number in range(num_layers)]
    return dispatch_model(
        model,
        dict.fromkeys(names + layers, "cpu"),
        main_device="cpu",
        force_hooks=True,
        skip_keys=model._skip_keys_device_placement,
    )


def _time(times: list[dict[str, str]]) -> Requirement:
    worst = max(float(row["ratio"]) for row in times)
    return Requirement(
        text=f"nothing to save: at most {MOST_TIMES} of the time without",
        measured=f"{worst:.3f} at worst",
        met=worst <= MOST_TIMES,
    )
