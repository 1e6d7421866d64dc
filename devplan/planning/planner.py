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
from devplan.planning.assemble import assemble, most_tokens
from devplan.planning.infeasible import explain
from devplan.planning.instance import Case, contract
from devplan.planning.objectives import OBJECTIVES, distances
from devplan.planning.pins import default_pins as pins_by_default
from devplan.planning.pins import resolve_user_pins
from devplan.planning.search import MAX_TOKENS, find, find_longest, fits, largest
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


# ----------------------------------------------------------------------------------------- capacity
#
# The most tokens at a batch, the most sequences at a context, and the fewest cards.  The answer is
# a plan made at the workload that was found: its loads are those of the answer, and a run of it
# confirms the answer.  Fitting is taken to be monotone: what fits still fits with fewer tokens,
# fewer sequences or one more card.


LARGEST_BATCH = 2**20
"""Beyond any batch; where so many sequences fit, nothing grows with them."""
MAX_STEPS = 2_000
"""Of a packing, in a trial of the searches; 2 to 4 ms."""

MODEL_LIMIT = (
    "{tokens:,} tokens are the model's own limit, not memory's: the cards would hold {memory}"
)


def plan_most_tokens(
    graph: BlockGraph,
    machine: Machine,
    workload: Workload,
    *,
    limit: int | None = None,
    pins: Mapping[str, str] | None = None,
    default_pins: bool = True,
    alternatives: Alternatives | None = None,
) -> Plan | Infeasible:
    """The placement that holds the most tokens per sequence, planned at that many.

    Parameters
    ----------
    graph, machine, pins, default_pins, alternatives
        As for `devplan.planning.plan`.
    workload
        Its batch is kept; its context is the least that has to fit.
    limit
        Longest context that the model supports; None: not known.  Where memory holds more, the
        plan is the most balanced one at the limit, and a note says so.

    Returns
    -------
    Plan or Infeasible
        ``Plan.workload`` holds the tokens.  Infeasible: not even the workload fits.
    """

    pins = pins or {}
    asked = workload.context_tokens
    case, notes = pose_case(graph, machine, workload, pins, default_pins)
    found = find_longest(case)
    if found is None:
        return explain(case, pins, alternatives or {})
    most, _ = most_tokens(case, found.pose, found.pose.devices(found.assignment))
    limited = limit is not None and limit >= asked and (most is None or most >= limit)
    tokens = limit if limited else most or asked
    at_tokens = replace(workload, context_tokens=tokens)
    if limited:
        even = plan(graph, machine, at_tokens, pins=pins, default_pins=default_pins)
        if isinstance(even, Plan):
            return _at_the_limit(even, most)
    case = replace(case, workload=at_tokens)
    found = replace(found, pose=replace(found.pose, case=case))
    answer = assemble(case, found, CONTEXT, notes)
    verify(answer, graph, machine, at_tokens, pins, default_pins=default_pins)
    return _at_the_limit(answer, most) if limited else answer


def _at_the_limit(answer: Plan, most: int | None) -> Plan:
    tokens = answer.workload.context_tokens
    memory = "any number" if most is None else f"{most:,}"
    return replace(
        answer,
        certificate=replace(answer.certificate, objective=CONTEXT),
        notes=(*answer.notes, MODEL_LIMIT.format(tokens=tokens, memory=memory)),
    )


def plan_most_sequences(
    graph: BlockGraph,
    machine: Machine,
    workload: Workload,
    *,
    pins: Mapping[str, str] | None = None,
    default_pins: bool = True,
) -> Plan | Infeasible:
    """The most balanced placement of the largest batch that fits at the workload's context.

    Parameters
    ----------
    graph, machine, pins, default_pins
        As for `devplan.planning.plan`.
    workload
        Its context is kept; its batch is the least that has to fit.

    Returns
    -------
    Plan or Infeasible
        ``Plan.workload`` holds the batch, `LARGEST_BATCH` where nothing grows with it.
        Infeasible: not even the workload fits.
    """
    pins = pins or {}

    def fits_at(batch: int) -> bool:
        if batch > LARGEST_BATCH:
            return False
        at_batch = replace(workload, batch=batch)
        case, _ = pose_case(graph, machine, at_batch, pins, default_pins)
        return fits(case, max_steps=MAX_STEPS)

    most = largest(fits_at, low=workload.batch) or workload.batch
    at_most = replace(workload, batch=min(most, LARGEST_BATCH, MAX_TOKENS))
    return plan(graph, machine, at_most, pins=pins, default_pins=default_pins)


def fewest_cards(
    graph: BlockGraph,
    workload: Workload,
    machine_of: Callable[[int], Machine],
    *,
    most: int,
) -> int | None:
    """The least number of cards on which the workload fits; None: not even on `most`.

    Parameters
    ----------
    graph, workload
        What has to fit.
    machine_of
        The machine of so many cards.
    most
        The largest number that is tried.
    """

    def too_few(count: int) -> bool:
        case, _ = pose_case(graph, machine_of(count), workload, {}, True)
        return not fits(case, max_steps=MAX_STEPS)

    if too_few(most):
        return None
    last = largest(too_few, low=1, high=most)
    return 1 if last is None else last + 1
