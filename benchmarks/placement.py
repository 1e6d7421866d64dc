"""How good the placements are: devplan, accelerate and transformers against the optimum."""

from __future__ import annotations

from benchmarks.cases import CASES, Case
from benchmarks.models import CONTEXT_TOKENS, Model, machine, model, workload
from benchmarks.optimum import chain_loads, optimum
from benchmarks.outcome import Outcome, outcome
from benchmarks.peers import PEERS
from benchmarks.report import Report, Requirement, Table
from benchmarks.timing import best_times_ms
from devplan.core.types import Infeasible, Machine, Plan
from devplan.core.units import GIB
from devplan.planning.instance import PlanRequest
from devplan.planning.planner import plan

FREE_LIMIT, PINNED_LIMIT = 1.005, 1.03
"""What devplan allows itself over the optimum, without pins and with the default pins."""
NUM_ROUNDS = 3

SMALL = {"CASES": CASES[:1], "NUM_ROUNDS": 1}

PROSE = f"""
Twelve cases in bfloat16 with one sequence of {CONTEXT_TOKENS:,} tokens and no reserve on any
card. A share is the load of the fullest card divided by its capacity: first weights and buffers
alone, then with the KV cache. The optimum is the smallest share of contiguous stages without any
pin, over every order of the cards, found by a dynamic programme of its own
(`benchmarks/optimum.py`), once for the weights alone and once with the cache. The bound is what
no placement goes below, contiguous or not.

With the default pins embedding, towers, norm and head lie on the first card, also where the
optimum has the head on the last: what is pinned comes in one large piece, so the rest can be
spread less evenly, most of all on cards that are small beside it. The ratio can also be below 1:
first and last block on one card are no contiguous stages.

The peers are given the capacities as `max_memory`. Device changes are counted along embedding,
layers, norm and head; 'most tokens' is the longest sequence at which no card is over its capacity
(0: the weights alone overflow one). Milliseconds are the planning alone for the peers; for devplan
they hold the weights profile, the graph, the plan and its verification (see planning_time.md).
"""


def measure() -> Report:
    """Both tables and the requirements."""
    found = [_measured(case) for case in CASES]
    return Report(
        title="Placements against the optimum and the installed planners",
        prose=PROSE,
        tables=(
            Table(title="devplan against the optimum", rows=[row for row, _, _ in found]),
            Table(
                title="Beside accelerate and transformers",
                rows=[row for _, rows, _ in found for row in rows],
            ),
        ),
        requirements=[item for _, _, requirements in found for item in requirements],
    )


def _measured(case: Case) -> tuple[dict, list[dict], list[Requirement]]:
    of, cards = model(case.id), machine(case.gpus)
    best = optimum(chain_loads(of.graph, CONTEXT_TOKENS), _capacities(cards))
    best_weights = optimum(chain_loads(of.graph, 0), _capacities(cards))
    free = plan(of.graph, PlanRequest(machine=cards, workload=workload(), default_pins=False))
    light = plan(of.graph, PlanRequest(machine=cards, workload=workload(1), default_pins=False))
    pinned = plan(of.graph, PlanRequest(machine=cards, workload=workload()))
    row = {
        "case": case.name,
        "bound": _bound(free),
        "optimum weights": f"{best_weights:.3f}",
        "--no-pin": _share(light, of, cards, 0),
        "optimum with KV": f"{best:.3f}",
        "--no-pin with KV": _share(free, of, cards, CONTEXT_TOKENS),
        "default pins with KV": _share(pinned, of, cards, CONTEXT_TOKENS),
        "over optimum": _ratios(best, free, pinned),
        "given up": _given_up(pinned),
    }
    requirements = [*_requirements(case, best, free, pinned)]
    requirements += _requirement(f"{case.name}, weights only", best_weights, light, FREE_LIMIT)
    return (
        row,
        _beside(case, of, cards, {"devplan --no-pin": free, "devplan": pinned}),
        requirements,
    )


def _capacities(cards: Machine) -> list[int]:
    return [card.capacity_bytes for card in cards.cards]


def _bound(result: Plan | Infeasible) -> str:
    infeasible = isinstance(result, Infeasible)
    return f"{result.lower_bound if infeasible else result.certificate.lower_bound:.3f}"


def _share(result: Plan | Infeasible, of: Model, cards: Machine, tokens: int) -> str:
    if isinstance(result, Infeasible):
        return "said infeasible"
    return f"{outcome(of, cards, result.placement).share(tokens):.3f}"


def _ratios(best: float, *results: Plan | Infeasible) -> str:
    return " / ".join(
        "-" if isinstance(r, Infeasible) else f"{r.certificate.bottleneck / best:.4f}"
        for r in results
    )


def _given_up(result: Plan | Infeasible) -> str:
    if isinstance(result, Infeasible):
        return "-"
    return str(sum(len(relaxation.blocks) for relaxation in result.relaxed)) + " pins"


# ------------------------------------------------------------------------------- requirements


def _requirements(case: Case, best: float, free, pinned) -> list[Requirement]:
    return [
        *_requirement(f"{case.name}, no pins", best, free, FREE_LIMIT),
        *_requirement(f"{case.name}, default pins", best, pinned, PINNED_LIMIT),
    ]


def _requirement(
    what: str, best: float, result: Plan | Infeasible, limit: float
) -> list[Requirement]:
    """At most `limit` times the optimum, or infeasible exactly where the optimum is above 1."""
    if isinstance(result, Infeasible):
        return [
            Requirement(
                text=f"{what}: infeasible is said where it is so",
                measured=f"optimum {best:.3f}; {result.reason}",
                met=best > 1,
            )
        ]
    ratio = result.certificate.bottleneck / best
    return [
        Requirement(
            text=f"{what}: at most {limit} times the optimum",
            measured=f"{ratio:.4f}",
            met=ratio <= limit and not result.offload_bytes,
        )
    ]


# ------------------------------------------------------------------------------- beside the peers


def _beside(
    case: Case, of: Model, cards: Machine, plans: dict[str, Plan | Infeasible]
) -> list[dict]:
    from benchmarks.planning_time import devplan_way

    outcomes = {
        name: outcome(of, cards, result.placement)
        for name, result in plans.items()
        if isinstance(result, Plan)
    }
    outcomes |= {name: outcome(of, cards, peer(of.module, cards)) for name, peer in PEERS.items()}
    ways = {name: _way(peer, of, cards) for name, peer in PEERS.items()}
    ways |= {
        "devplan --no-pin": devplan_way(of, cards, default_pins=False),
        "devplan": devplan_way(of, cards, default_pins=True),
    }
    times = best_times_ms(ways, NUM_ROUNDS)
    rows = [_row(case, name, outcomes.get(name), times[name]) for name in (*plans, *PEERS)]
    # The name of the case once is enough for the eye.
    return [rows[0], *({**row, "case": ""} for row in rows[1:])]


def _way(peer, of: Model, cards: Machine):
    return lambda: peer(of.module, cards)


def _row(case: Case, name: str, found: Outcome | None, ms: float) -> dict:
    if found is None:
        return {
            "case": case.name,
            "planner": name,
            "weights": "infeasible",
            "with KV": "infeasible",
            "GiB on disk": "0.0",
            "changes": "-",
            "most tokens": "-",
            "ms": f"{ms:.0f}",
        }
    most = found.most_tokens
    return {
        "case": case.name,
        "planner": name,
        "weights": f"{found.weights_share:.3f}",
        "with KV": f"{found.share(CONTEXT_TOKENS):.3f}",
        "GiB on disk": f"{found.disk_bytes / GIB:.1f}",
        "changes": str(found.num_changes),
        "most tokens": "any" if most is None else f"{most:,}",
        "ms": f"{ms:.0f}",
    }
