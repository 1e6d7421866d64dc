"""How long planning takes once the skeleton is there, beside the installed planners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks.cases import CASES
from benchmarks.models import Model, machine, model, workload
from benchmarks.peers import AUTO
from benchmarks.report import Report, Requirement, Table
from benchmarks.timing import best_times_ms
from devplan.core.types import Infeasible, Machine, Plan
from devplan.models.blocks import partition
from devplan.planning.instance import PlanRequest
from devplan.planning.planner import plan
from devplan.profile.graph import build_graph
from devplan.profile.profiling import measure_weights

NUM_ROUNDS = 9

SMALL = {"CASES": CASES[:1], "NUM_ROUNDS": 1}

PROSE = """
Milliseconds from a skeleton on the meta device to a device map, in one process, the planners in
turns, the best of nine rounds. For devplan that is: divide the model into blocks, measure the
weights, build the graph, plan with the default pins, and verify the plan. The peers do not count
the KV cache. devplan learns it from virtual runs of the model's own code, done once for each model
and shown in a column of its own; it is not part of the comparison, since nothing of the peers
corresponds to it.
"""


def measure() -> Report:
    """One row a case."""
    rows, requirements = [], []
    for case in CASES:
        of, cards = model(case.id), machine(case.gpus)
        ways = {name: _peer_way(peer, of, cards) for name, peer in AUTO.items()}
        times = best_times_ms({**ways, "devplan": devplan_way(of, cards)}, NUM_ROUNDS)
        ratio = times["devplan"] / times["transformers auto"]
        rows.append(
            {
                "case": case.name,
                **{f"{name} ms": f"{ms:.1f}" for name, ms in times.items()},
                "devplan / transformers": f"{ratio:.2f}",
                "profile with virtual runs, once, ms": f"{of.profile_ms:.0f}",
            }
        )
        requirements.append(
            Requirement(
                text=f"{case.name}: at most the time of transformers auto",
                measured=f"{times['devplan']:.1f} against {times['transformers auto']:.1f} ms",
                met=ratio <= 1,
            )
        )
    return Report(
        title="Planning time",
        prose=PROSE,
        tables=(Table(title="Skeleton to device map", rows=rows),),
        requirements=requirements,
    )


def devplan_way(
    of: Model, cards: Machine, *, default_pins: bool = True
) -> Callable[[], Plan | Infeasible]:
    """Skeleton to verified plan; what the virtual runs showed is given."""

    def run() -> Plan | Infeasible:
        sites = partition(of.module, of.skeleton.no_split)
        weights = measure_weights(of.skeleton, sites)
        profile = replace(of.profile, sites=sites, weights=weights)
        return plan(
            build_graph(profile),
            PlanRequest(machine=cards, workload=workload(), default_pins=default_pins),
        )

    return run


def _peer_way(peer, of: Model, cards: Machine) -> Callable[[], object]:
    return lambda: peer(of.module, cards)
