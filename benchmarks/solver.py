"""How long the chain solver takes on sizes that models and machines have, and whether it is exact.

The peers have no solver to compare with: both fill one card after another.  devplan's own
``sequential`` does the same and stands beside it, for its share.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from benchmarks.optimum import optimum
from benchmarks.report import Report, Requirement, Table
from benchmarks.timing import best_times_ms
from devplan.core.units import GIB
from devplan.planning.problem import Problem, Slot, num_transfers, share_of
from devplan.planning.solvers import chain, sequential
from devplan.planning.solvers.reach import card_states

LAYER_BYTES = 855_654_400 * 2
MATRIX_BYTES = 128_256 * 8_192 * 2
NUM_RUNS = 7
MOST_CARDS_BY_HAND = 8
"""Up to here the second method of `benchmarks.optimum` tries every order of the cards."""

EIGHT_EQUAL = (24,) * 8
EIGHT_MIXED = (24, 24, 48, 48, 80, 80, 16, 16)
EIGHT_DIFFERENT = (24, 16, 48, 32, 80, 40, 12, 20)
SIXTEEN_DIFFERENT = (12, 16, 20, 22, 24, 28, 32, 36, 40, 44, 48, 56, 64, 72, 80, 96)

PROSE = """
The blocks are those of Llama-3.1-70B in bfloat16: layers of 855,654,400 parameters, with embedding
and head of 128,256 x 8,192 on the first card; as many layers as the row says, 4,000 blocks being
slices of them. *Mixed* layers have sizes of their own, so that no two stages weigh the same.
Times are those of `chain.solve`: the first run also builds the tables of card states, the other is
the best of six more. *Optimum* comes from the second method of `benchmarks/optimum.py`, which
tries every order of up to eight cards. *Sequential* is devplan's naive baseline.
"""


@dataclass(frozen=True, kw_only=True)
class Size:
    """A number of layers on some cards, and how long the solver may take."""

    name: str
    num_layers: int
    cards_gib: tuple[int, ...]
    most_ms: float | None


SIZES = (
    Size(name="80 layers, 8 equal cards", num_layers=80, cards_gib=EIGHT_EQUAL, most_ms=12),
    Size(name="80 layers, 8 cards of 4 sizes", num_layers=80, cards_gib=EIGHT_MIXED, most_ms=12),
    Size(name="80 layers, 8 different cards", num_layers=80, cards_gib=EIGHT_DIFFERENT, most_ms=12),
    Size(
        name="128 layers, 16 different cards",
        num_layers=128,
        cards_gib=SIXTEEN_DIFFERENT,
        most_ms=1000,
    ),
    Size(
        name="4,000 blocks, 8 different cards",
        num_layers=4_000,
        cards_gib=EIGHT_DIFFERENT,
        most_ms=None,
    ),
)
SMALL = {"SIZES": SIZES[:1], "NUM_RUNS": 1}


def measure() -> Report:
    """One row a size and kind of layers."""
    found = [
        _measured(size, kind, make_layers(size.num_layers))
        for size in SIZES
        for kind, make_layers in (("equal", _equal), ("mixed", _mixed))
    ]
    return Report(
        title="The solver",
        prose=PROSE,
        tables=(Table(title="chain.solve", rows=[row for row, _ in found]),),
        requirements=[item for _, requirements in found for item in requirements],
    )


def _equal(num_layers: int) -> tuple[int, ...]:
    """As many bytes as the 80 layers have, so that 4,000 blocks are as full as 80."""
    return (LAYER_BYTES * 80 // max(num_layers, 80),) * num_layers


def _mixed(num_layers: int) -> tuple[int, ...]:
    draw = random.Random(num_layers)
    return tuple(int(size * draw.uniform(0.5, 1.5)) for size in _equal(num_layers))


def _problem(loads: tuple[int, ...], cards_gib: tuple[int, ...], base_bytes: int) -> Problem:
    slots = tuple(
        Slot(
            device=f"cuda:{index}",
            budget_bytes=size * GIB,
            base_bytes=0 if index else base_bytes,
            in_use=index == 0 and base_bytes > 0,
        )
        for index, size in enumerate(cards_gib)
    )
    end = 0 if base_bytes else None
    return Problem(loads_bytes=loads, slots=slots, first=end, last=end, main=0)


def _measured(size: Size, kind: str, loads: tuple[int, ...]) -> tuple[dict, list[Requirement]]:
    problem = _problem(loads, size.cards_gib, 2 * MATRIX_BYTES)
    card_states.cache_clear()
    first_ms = best_times_ms({"": lambda: chain.solve(problem)}, 1)[""]
    best_ms = best_times_ms({"": lambda: chain.solve(problem)}, NUM_RUNS - 1)[""]
    assignment = chain.solve(problem)
    row = {
        "case": f"{size.name}, {kind} layers",
        "share": f"{float(share_of(problem, assignment)):.4f}",
        "sequential": f"{float(share_of(problem, sequential.solve(problem))):.4f}",
        "transfers": str(num_transfers(problem, assignment)),
        "exact": "yes" if chain.is_exact(problem) else "no",
        "optimum": _against_second_method(size, loads),
        "first ms": f"{first_ms:.1f}",
        "best ms": f"{best_ms:.1f}",
    }
    if size.most_ms is None:
        return row, []
    requirement = Requirement(
        text=f"{row['case']}: at most {size.most_ms:.0f} ms, exact",
        measured=f"{best_ms:.1f} ms, first {first_ms:.1f} ms, optimum {row['optimum']}",
        met=best_ms <= size.most_ms and chain.is_exact(problem) and row["optimum"] != "no",
    )
    return row, [requirement]


def _against_second_method(size: Size, loads: tuple[int, ...]) -> str:
    """Whether both methods agree where nothing lies on the first card; only small sizes are tried,
    as 16 different cards have 2 * 10**13 orders."""
    if len(size.cards_gib) > MOST_CARDS_BY_HAND or len(loads) > 100:
        return "not tried"
    problem = _problem(loads, size.cards_gib, 0)
    found = float(share_of(problem, chain.solve(problem)))
    best = optimum(loads, [slot.budget_bytes for slot in problem.slots])
    return "agrees" if abs(found - best) < 1e-12 else "no"
