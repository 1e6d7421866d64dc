"""The planner: from blocks, machine and workload to a plan, or to why there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from devplan.core import (
    BlockGraph,
    Infeasible,
    InputError,
    Machine,
    Plan,
    Workload,
    format_bytes,
    nearest,
)
from devplan.machine import speeds_of
from devplan.planning.assemble import assemble
from devplan.planning.infeasible import explain
from devplan.planning.instance import Case
from devplan.planning.latency import distances
from devplan.planning.most_tokens import find_longest
from devplan.planning.objectives import OBJECTIVES
from devplan.planning.pins import default_pins as pins_by_default
from devplan.planning.pins import resolve_user_pins
from devplan.planning.search import find
from devplan.planning.units import contract
from devplan.planning.verifier import verify

Alternatives = Mapping[str, Callable[[], BlockGraph]]
"""Change, as the user would type it -> the graph after it: ``{"--quantize 8bit": ...}``."""

CONTEXT = "context"
"""The objective that asks for the most tokens."""


def plan(
    graph: BlockGraph,
    machine: Machine,
    workload: Workload,
    *,
    objective: str = "balance",
    pins: Mapping[str, str] | None = None,
    default_pins: bool = True,
    alternatives: Alternatives | None = None,
) -> Plan | Infeasible:
    """The best placement of the blocks on the cards at the workload, verified.

    Parameters
    ----------
    graph
        Blocks in execution order.
    machine
        Cards in the order in which they were named; tiers only where offloading is allowed.
    workload
        Decides the size of the caches.
    objective
        ``balance`` (smallest largest share), ``context`` (most tokens), ``fewest`` (cards) or
        ``latency`` (least time of a request).
    pins
        Module -> device, as the user typed them.
    default_pins
        Whether all that is no layer belongs on the main device where it fits.
    alternatives
        Other graphs to try when nothing fits.

    Returns
    -------
    Plan or Infeasible
        A plan always fits and has passed the verifier.

    Raises
    ------
    InputError
        Unknown objective, module or device, contradictory pins, a card without budget, or one of
        unknown speed where speed is asked for.
    """
    pins = pins or {}
    if objective not in OBJECTIVES:
        known = ", ".join(OBJECTIVES)
        raise InputError(
            f"no objective {objective!r}; there are {known}{nearest(objective, OBJECTIVES)}"
        )
    case, notes = pose_case(graph, machine, workload, pins, default_pins)
    if objective == "latency":
        case = replace(case, speeds=speeds_of(machine))
    found = find_longest(case) if objective == CONTEXT else find(case, OBJECTIVES[objective])
    if found is None:
        return explain(case, pins, alternatives or {})
    answer = assemble(case, found, objective, notes)
    verify(answer, graph, machine, workload, pins, default_pins=default_pins)
    return answer


def pose_case(
    graph: BlockGraph,
    machine: Machine,
    workload: Workload,
    pins: Mapping[str, str],
    default_pins: bool,
) -> tuple[Case, tuple[str, ...]]:
    """What was asked, with names resolved, and notes on how they were read."""
    for card in machine.cards:
        if card.budget_bytes <= 0:
            raise InputError(
                f"{card.device}: a reserve of {format_bytes(card.reserve_bytes)} leaves nothing of "
                f"its {format_bytes(card.capacity_bytes)}; give a smaller --reserve"
            )
    units = contract(graph)
    user = resolve_user_pins(pins, graph, units, machine)
    case = Case(
        graph=graph,
        units=units,
        machine=machine,
        workload=workload,
        user_pins=user.devices,
        defaults=pins_by_default(graph, units) if default_pins else {},
        distances=distances(graph, machine, workload),
    )
    return case, user.notes
