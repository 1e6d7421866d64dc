"""How long the chain solver takes, and what it finds, on sizes that models and machines have.

The blocks are those of Llama-3.1-70B in bfloat16 (layers of 855,654,400 parameters; embedding and
head of 128,256 x 8,192 on the first card), with as many layers as the row says.  *Mixed* layers
have sizes of their own, so that no two stages weigh the same.  Each case is solved a few times;
the first run, which also builds the tables of card states, is shown apart from the best.
"""

from __future__ import annotations

import random
import time

from tabulate import tabulate

from devplan.planning.problem import Problem, Slot, num_transfers, share_of
from devplan.planning.solvers import chain
from devplan.planning.solvers.card_states import card_states
from devplan.units import GIB

LAYER_BYTES = 855_654_400 * 2
MATRIX_BYTES = 128_256 * 8_192 * 2
NUM_RUNS = 7

EIGHT_EQUAL = (24,) * 8
EIGHT_MIXED = (24, 24, 48, 48, 80, 80, 16, 16)
EIGHT_DIFFERENT = (24, 16, 48, 32, 80, 40, 12, 20)
SIXTEEN_DIFFERENT = (12, 16, 20, 22, 24, 28, 32, 36, 40, 44, 48, 56, 64, 72, 80, 96)

CASES = (
    ("80 layers, 8 equal cards", 80, EIGHT_EQUAL),
    ("80 layers, 8 cards of 4 sizes", 80, EIGHT_MIXED),
    ("80 layers, 8 different cards", 80, EIGHT_DIFFERENT),
    ("128 layers, 16 different cards", 128, SIXTEEN_DIFFERENT),
    ("4,000 blocks, 8 different cards", 4_000, EIGHT_DIFFERENT),
)


def rows() -> list[dict]:
    """One row a case and kind of layers: shares, transfers, and times in milliseconds."""
    return [
        _row(f"{name}, {kind} layers", _problem(make_layers(num_layers), cards))
        for name, num_layers, cards in CASES
        for kind, make_layers in (("equal", _equal), ("mixed", _mixed))
    ]


def _equal(num_layers: int) -> tuple[int, ...]:
    """As many bytes as the 80 layers have, so that 4,000 blocks are as full as 80."""
    return (LAYER_BYTES * 80 // max(num_layers, 80),) * num_layers


def _mixed(num_layers: int) -> tuple[int, ...]:
    draw = random.Random(num_layers)
    return tuple(int(size * draw.uniform(0.5, 1.5)) for size in _equal(num_layers))


def _problem(loads: tuple[int, ...], cards_gib: tuple[int, ...]) -> Problem:
    slots = tuple(
        Slot(
            device=f"cuda:{index}",
            budget_bytes=size * GIB,
            base_bytes=0 if index else 2 * MATRIX_BYTES,
            in_use=index == 0,
        )
        for index, size in enumerate(cards_gib)
    )
    return Problem(loads_bytes=loads, slots=slots, first=0, last=0, main=0)


def _row(name: str, problem: Problem) -> dict:
    card_states.cache_clear()
    times_ms = []
    for _ in range(NUM_RUNS):
        start = time.perf_counter()
        assignment = chain.solve(problem)
        times_ms.append(1e3 * (time.perf_counter() - start))
    assert assignment is not None
    return {
        "case": name,
        "share": round(float(share_of(problem, assignment)), 4),
        "transfers": num_transfers(problem, assignment),
        "exact": "yes" if chain.is_exact(problem) else "no",
        "first ms": round(times_ms[0], 1),
        "best ms": round(min(times_ms[1:]), 1),
    }


def main() -> None:
    """Print the table in markdown."""
    print(tabulate(rows(), headers="keys", tablefmt="github"))


if __name__ == "__main__":
    main()
