"""Many models on many machines, every planner's map run virtually: who leaves a map that works?

The models of `benchmarks.survey`; what is counted is what ``devplan compare`` shows.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.report import Report, Requirement, Table
from benchmarks.survey import MODELS
from devplan.core.device_map import device_map_of
from devplan.core.types import Infeasible, Machine, Plan
from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.planning.instance import PlanRequest
from devplan.planning.planner import plan
from devplan.workflows.comparison import BY_HAND, STRATEGIES, peers_of
from devplan.workflows.evaluation import Evaluation, built_of, judge, peak_share
from devplan.workflows.profiled_model import ProfiledModel, study
from devplan.workflows.suggesting import suggest_studied

MACHINES = (
    "24GiB,12GiB",
    "2x24GiB",
    "4x24GiB",
    "8x24GiB",
    "80GiB,48GiB,24GiB,24GiB",
    "4x48GiB",
    "2x80GiB",
    "8x80GiB",
)
"""Equal and unequal, tight and generous."""
CONTEXT_TOKENS = 8192
DEVPLAN = "devplan"
PLANNERS = (DEVPLAN, BY_HAND, *STRATEGIES)

SMALL = {"MODELS": MODELS[:1], "MACHINES": MACHINES[:1]}

PROSE = f"""
{len(MODELS)} models on {len(MACHINES)} machines, one sequence of {CONTEXT_TOKENS:,} tokens, 1 GiB
of every card kept as a reserve. Every map is run virtually, prefill and two decode steps, and
checked by every rule of `devplan check`. *Works*: it ran, nothing stops the model, no card is over
what it has, nothing was spilled to cpu or disk. *Most tokens*: the longest sequence that the map is
foretold to hold, cache and activations counted; devplan's is that of `--objective context`, as it
comes (default pins give way where that holds more) and with `--no-pin`. The other planners do not
know of cache and activations, and are asked as `devplan compare` asks them.
"""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A model on a machine."""

    model: str
    gpus: str
    judged: Mapping[str, Evaluation | None]
    """Planner -> its map; None: it says that nothing fits, or refuses."""
    pinned: Plan | None
    """Of devplan's context objective, default pins kept where they cost no tokens."""
    free: Plan | None
    """The same without default pins."""
    nothing_fits: bool
    """Whether devplan says so."""


def measure() -> Report:
    """Counts, requirements, and a row a cell."""
    cells = [cell for id in MODELS for cell in _cells(id)]
    return Report(
        title="Every map run",
        prose=PROSE,
        tables=(
            Table(title="Counts", rows=[_counts(cells, name) for name in PLANNERS]),
            Table(title="Most tokens, and what is proven of them", rows=_proofs(cells)),
            Table(title="Cells", rows=[_row(cell) for cell in cells]),
        ),
        requirements=[_all_clean(cells), _none_missed(cells), _never_fewer(cells)],
    )


def _cells(id: str) -> list[Cell]:
    print(id, file=sys.stderr, flush=True)
    request = Workload(context=CONTEXT_TOKENS, dtype="bfloat16")
    machines = {gpus: parse_gpus(gpus) for gpus in MACHINES}
    studied = study(id, request, machines.values())
    return [_cell(studied, gpus, machine) for gpus, machine in machines.items()]


def _cell(studied: ProfiledModel, gpus: str, machine: Machine) -> Cell:
    built = built_of(studied)
    found = suggest_studied(studied, machine, pins={})
    judged: dict[str, Evaluation | None] = {DEVPLAN: None}
    if found.map_file is not None:
        judged[DEVPLAN] = judge(DEVPLAN, built, device_map_of(found.map_file.device_map), machine)
    known: dict[tuple, Evaluation] = {}
    for name, planner in peers_of(studied):
        device_map = planner(machine)
        key = tuple(device_map.items())
        known[key] = known.get(key) or judge(name, built, device_map_of(device_map, name), machine)
        judged[name] = known[key]
    return Cell(
        model=studied.source.id.partition("/")[2],
        gpus=gpus.replace("GiB", ""),
        judged=judged,
        pinned=_longest(studied, machine, default_pins=True),
        free=_longest(studied, machine, default_pins=False),
        nothing_fits=isinstance(found.result, Infeasible),
    )


def _longest(studied: ProfiledModel, machine: Machine, *, default_pins: bool) -> Plan | None:
    request = PlanRequest(
        machine=machine, workload=studied.workload, objective="context", default_pins=default_pins
    )
    found = plan(studied.graph, request)
    return found if isinstance(found, Plan) else None


# ------------------------------------------------------------------------------- what it says


def _works(judged: Evaluation | None) -> bool:
    return judged is not None and judged.is_clean and not judged.spilled_bytes


def _fullest(judged: Evaluation) -> float:
    return max(map(peak_share, judged.loads))


def _tokens(judged: Evaluation | None) -> int:
    return (judged.most_tokens or 0) if judged is not None and _works(judged) else 0


def _best_peer_tokens(cell: Cell) -> int:
    return max(_tokens(cell.judged[name]) for name in PLANNERS if name != DEVPLAN)


def _counts(cells: Sequence[Cell], name: str) -> dict[str, str]:
    found = [cell.judged[name] for cell in cells]
    maps = [judged for judged in found if judged is not None]
    return {
        "planner": name,
        "cells": str(len(cells)),
        "works": str(sum(map(_works, maps))),
        "says that nothing fits": str(len(cells) - len(maps)),
        "spills": str(sum(bool(judged.spilled_bytes) for judged in maps)),
        "a finding stops it": str(
            sum(not judged.is_clean and not judged.spilled_bytes for judged in maps)
        ),
        "over a card's capacity": str(sum(_fullest(judged) > 1 for judged in maps)),
    }


def _all_clean(cells: Sequence[Cell]) -> Requirement:
    maps = [cell for cell in cells if cell.judged[DEVPLAN] is not None]
    bad = [
        cell
        for cell in maps
        if not _works(cell.judged[DEVPLAN]) or _fullest(cell.judged[DEVPLAN]) > 1
    ]
    unsaid = [c for c in cells if c.judged[DEVPLAN] is None and not c.nothing_fits]
    return Requirement(
        text="every map of devplan works and stays under capacity, or it is said that nothing fits",
        measured=f"{len(maps)} maps, {len(bad)} that do not{_named(bad)}; "
        f"{len(unsaid)} cells without a map or a word",
        met=not bad and not unsaid,
    )


def _none_missed(cells: Sequence[Cell]) -> Requirement:
    said = [cell for cell in cells if cell.nothing_fits]
    wrong = [c for c in said if any(_works(c.judged[n]) for n in PLANNERS if n != DEVPLAN)]
    return Requirement(
        text="where devplan says that nothing fits, no other planner has a map that works",
        measured=f"{len(said)} cells said, {len(wrong)} wrongly{_named(wrong)}",
        met=not wrong,
    )


def _never_fewer(cells: Sequence[Cell]) -> Requirement:
    pinned = [c for c in cells if (_most(c.pinned) or 0) < _best_peer_tokens(c)]
    free = [c for c in cells if (_most(c.free) or 0) < _best_peer_tokens(c)]
    return Requirement(
        text="--objective context holds at least the tokens of the best other map, with and "
        "without --no-pin",
        measured=f"{len(pinned)} of {len(cells)} cells with fewer{_named(pinned)}; with --no-pin "
        f"{len(free)}{_named(free)}",
        met=not pinned and not free,
    )


def _most(plan: Plan | None) -> int | None:
    return None if plan is None else plan.workload.tokens


def _proofs(cells: Sequence[Cell]) -> list[dict[str, str]]:
    """How far the tokens are from what is proven that no placement holds."""
    rows = []
    for name, plans in (
        ("--objective context", [cell.pinned for cell in cells]),
        ("--objective context --no-pin", [cell.free for cell in cells]),
    ):
        found = [plan for plan in plans if plan is not None]
        # No bound is known where nothing is proven to end the context.
        known = [(_most(p), p.certificate.most_tokens_bound) for p in found]
        gaps = sorted(bound / most - 1 for most, bound in known if bound is not None)
        rows.append(
            {
                "devplan": name,
                "cells with a plan": str(len(found)),
                "no placement holds more": str(sum(gap == 0 for gap in gaps)),
                "contiguous stages": str(sum(plan.contiguous for plan in found)),
                "median gap": f"{gaps[len(gaps) // 2]:.1%}",
                "9 of 10 gaps below": f"{gaps[len(gaps) * 9 // 10]:.1%}",
            }
        )
    return rows


def _named(cells: Sequence[Cell]) -> str:
    return f": {'; '.join(f'{cell.model} on {cell.gpus}' for cell in cells)}" if cells else ""


def _row(cell: Cell) -> dict[str, str]:
    row = {"model": cell.model, "cards": cell.gpus}
    for name in PLANNERS:
        row[name] = _in_words(cell.judged[name])
    row["devplan, most tokens"] = _number(_most(cell.pinned))
    row["--no-pin"] = _number(_most(cell.free))
    row["best other"] = _number(_best_peer_tokens(cell) or None)
    return row


def _in_words(judged: Evaluation | None) -> str:
    """Fullest card of a map that works, or what is in the way."""
    if judged is None:
        return "nothing fits"
    if judged.spilled_bytes:
        return "spills"
    if not judged.is_clean:
        return judged.check.errors[0].code if judged.check.errors else "does not run"
    return f"{_fullest(judged):.0%}"


def _number(tokens: int | None) -> str:
    return "-" if tokens is None else f"{tokens:,}"
