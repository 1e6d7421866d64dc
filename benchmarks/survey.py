"""Many models on several machines: is devplan ever worse than a planner that is installed anyway?

Models are dense and sparse, with and without towers, tied and not, recurrent, encoder-decoder.
Left out are checkpoints that are quantized (the peers would need the quantizer's own objects) and
models without a class in transformers.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.models import CONTEXT_TOKENS, Model, machine, model, workload
from benchmarks.outcome import Outcome, outcome
from benchmarks.peers import AUTO, Peer
from benchmarks.placement import PINNED_LIMIT
from benchmarks.report import Report, Requirement, Table
from devplan.core.types import Infeasible, Machine
from devplan.core.units import GIB
from devplan.planning.instance import PlanRequest
from devplan.planning.planner import plan

MODELS = (
    "Qwen/Qwen2-VL-2B-Instruct",
    "Qwen/Qwen2.5-VL-7B-Instruct",
    "Qwen/Qwen2.5-VL-32B-Instruct",
    "Qwen/Qwen2.5-VL-72B-Instruct",
    "Qwen/Qwen2.5-32B-Instruct",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen3-235B-A22B",
    "Qwen/Qwen3-Next-80B-A3B-Instruct",
    "Qwen/Qwen3-VL-8B-Instruct",
    "Qwen/Qwen3-VL-30B-A3B-Instruct",
    "OpenGVLab/InternVL3-8B-hf",
    "OpenGVLab/InternVL3-38B-hf",
    "baidu/ERNIE-4.5-VL-28B-A3B-Thinking",
    "google/flan-t5-xxl",
    "google/gemma-2-27b-it",
    "google/gemma-3-4b-it",
    "google/gemma-3-27b-it",
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.1-70B-Instruct",
    "meta-llama/Llama-3.2-3B-Instruct",
    "meta-llama/Llama-3.2-11B-Vision-Instruct",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct",
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
    "mistralai/Mixtral-8x7B-v0.1",
    "stepfun-ai/GOT-OCR-2.0-hf",
    "tiiuae/falcon-180B",
    "zai-org/GLM-4.5-Air",
)
MACHINES = ("24GiB,12GiB", "4x24GiB", "80GiB,48GiB,24GiB,24GiB", "8x80GiB")

TOLERANCE = 1e-9
"""Shares that differ by less are equal: rounding of floats."""

SMALL = {"MODELS": MODELS[:1], "MACHINES": MACHINES[:1]}

PROSE = f"""
{len(MODELS)} models on {len(MACHINES)} machines in bfloat16, one sequence of {CONTEXT_TOKENS:,}
tokens, no reserve. A share is the load of the fullest card with its KV cache, divided by its
capacity; *disk* is what a planner sends there; *over* means that some card is over its capacity
at this context. devplan is compared, in every cell, with the smallest share of those peers that
neither spill nor overflow there. 'Most tokens' is the longest sequence before some card is full.
"""


def measure() -> Report:
    """One row a cell, and the counts."""
    rows = [_row(model(id), gpus) for id in MODELS for gpus in MACHINES]
    return Report(
        title="Many models on several machines",
        prose=PROSE,
        tables=(
            Table(title="Counts", rows=_counts(rows)),
            Table(title="Cells", rows=[_cells(row) for row in rows]),
        ),
        requirements=[
            _never_worse(rows),
            _hardly_worse(rows),
            Requirement(
                text="devplan never sends anything to disk and never overfills a card",
                measured=f"{sum(_fails(row['devplan']) for row in rows)} cells",
                met=not any(_fails(row["devplan"]) for row in rows),
            ),
            _infeasible_is_so(rows),
        ],
    )


def _row(of: Model, gpus: str) -> dict:
    cards = machine(gpus)
    return {
        "model": of.id.partition("/")[2],
        "cards": gpus.replace("GiB", ""),
        "devplan": _planned(of, cards, default_pins=True),
        "--no-pin": _planned(of, cards, default_pins=False),
        "pinned share": _pinned_share(of, cards),
        **{name: _mapped(of, cards, peer) for name, peer in AUTO.items()},
    }


def _planned(of: Model, cards: Machine, *, default_pins: bool) -> Outcome | Infeasible:
    result = plan(
        of.graph, PlanRequest(machine=cards, workload=workload(), default_pins=default_pins)
    )
    return result if isinstance(result, Infeasible) else outcome(of, cards, result.placement)


def _pinned_share(of: Model, cards: Machine) -> float:
    """What the default pins alone put on the main card, as a share of it."""
    result = plan(of.graph, PlanRequest(machine=cards, workload=workload()))
    if isinstance(result, Infeasible):
        return 0.0
    blocks = (of.graph.block(pin.block) for pin in result.pins)
    pinned_bytes = sum(block.load_bytes(CONTEXT_TOKENS) for block in blocks)
    return pinned_bytes / cards.card(cards.main_device).capacity_bytes


def _mapped(of: Model, cards: Machine, peer: Peer) -> Outcome:
    return outcome(of, cards, peer(of.module, cards))


# --------------------------------------------------------------------------------- what it says


def _fails(found: Outcome | Infeasible) -> bool:
    """Whether a map spills to disk or overfills a card; saying infeasible is no failure."""
    if isinstance(found, Infeasible):
        return False
    return found.disk_bytes > 0 or found.share(CONTEXT_TOKENS) > 1


def _share(found: Outcome | Infeasible) -> float:
    return float("inf") if isinstance(found, Infeasible) else found.share(CONTEXT_TOKENS)


def _best_peer(row: dict) -> float:
    """Smallest share of the peers' maps that work, infinite when none does."""
    works = [row[name] for name in AUTO if not _fails(row[name])]
    return min(map(_share, works), default=float("inf"))


def _never_worse(rows: Sequence[dict]) -> Requirement:
    """Without pins, no peer's working map has a smaller share."""
    worse = [row for row in rows if _share(row["--no-pin"]) > _best_peer(row) + TOLERANCE]
    return Requirement(
        text="--no-pin: in no cell a larger share than the best peer's",
        measured=f"{len(worse)} of {len(rows)} cells{_listed(worse, '--no-pin')}",
        met=not worse,
    )


def _hardly_worse(rows: Sequence[dict]) -> Requirement:
    """With the default pins, within the limit, or as low as what is pinned allows."""
    above = [row for row in rows if _share(row["devplan"]) > PINNED_LIMIT * _best_peer(row)]
    worse = [row for row in above if _share(row["devplan"]) > row["pinned share"] + TOLERANCE]
    return Requirement(
        text=f"default pins: in no cell above {PINNED_LIMIT} times the best peer's share, but "
        "where what is pinned to the main card alone is the share",
        measured=f"{len(worse)} of {len(rows)} cells; the exception is "
        f"{len(above) - len(worse)} cells{_listed(above, 'devplan')}",
        met=not worse,
    )


def _listed(rows: Sequence[dict], planner: str) -> str:
    cells = (
        f"{row['model']} on {row['cards']} {_share(row[planner]):.3f} against {_best_peer(row):.3f}"
        for row in rows
    )
    return f": {'; '.join(cells)}" if rows else ""


def _infeasible_is_so(rows: Sequence[dict]) -> Requirement:
    """No peer has a working map where devplan says that there is none."""
    wrong = [
        row
        for row in rows
        if isinstance(row["devplan"], Infeasible) and _best_peer(row) < float("inf")
    ]
    said = sum(isinstance(row["devplan"], Infeasible) for row in rows)
    return Requirement(
        text="where devplan says infeasible, no peer has a map that works",
        measured=f"{said} cells said infeasible, {len(wrong)} wrongly",
        met=not wrong,
    )


def _counts(rows: Sequence[dict]) -> list[dict]:
    planners = ("devplan", "--no-pin", *AUTO)
    return [
        {
            "planner": planner,
            "cells": str(len(rows)),
            "works": str(sum(_works(row[planner]) for row in rows)),
            "says infeasible": str(sum(isinstance(row[planner], Infeasible) for row in rows)),
            "spills to disk": str(sum(_spills(row[planner]) for row in rows)),
            "overfills a card": str(sum(_overfills(row[planner]) for row in rows)),
            "fails where devplan works": str(
                sum(_fails(row[planner]) and _works(row["devplan"]) for row in rows)
            ),
            "smallest share of all": str(sum(_is_best(row, planner) for row in rows)),
        }
        for planner in planners
    ]


def _works(found: Outcome | Infeasible) -> bool:
    return isinstance(found, Outcome) and not _fails(found)


def _spills(found: Outcome | Infeasible) -> bool:
    return isinstance(found, Outcome) and found.disk_bytes > 0


def _overfills(found: Outcome | Infeasible) -> bool:
    return isinstance(found, Outcome) and _share(found) > 1


def _is_best(row: dict, planner: str) -> bool:
    working = [_share(row[name]) for name in ("devplan", "--no-pin", *AUTO) if _works(row[name])]
    return _works(row[planner]) and _share(row[planner]) <= min(working) + TOLERANCE


def _cells(row: dict) -> dict:
    planners = ("devplan", "--no-pin", *AUTO)
    return {
        "model": row["model"],
        "cards": row["cards"],
        **{planner: _text(row[planner]) for planner in planners},
        **{f"most tokens, {planner}": _tokens(row[planner]) for planner in ("devplan", *AUTO)},
    }


def _text(found: Outcome | Infeasible) -> str:
    if isinstance(found, Infeasible):
        return "infeasible"
    parts = [f"{_share(found):.3f}"]
    parts += ["over"] * _overfills(found)
    parts += [f"disk {found.disk_bytes / GIB:.1f}"] * _spills(found)
    return " ".join(parts)


def _tokens(found: Outcome | Infeasible) -> str:
    if isinstance(found, Infeasible):
        return "-"
    most = found.most_tokens
    return "any" if most is None else f"{most:,}"
