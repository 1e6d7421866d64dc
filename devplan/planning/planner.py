"""The planner: from blocks and a request to a plan, or to why there is none."""

from __future__ import annotations

from collections.abc import Callable
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
from devplan.planning.components import plan_pipeline
from devplan.planning.infeasible import explain
from devplan.planning.instance import Instance, PlanRequest, contract
from devplan.planning.objectives import OBJECTIVES, distances
from devplan.planning.pins import default_pins, resolve_user_pins
from devplan.planning.search import (
    MAX_TOKENS,
    FoundPlacement,
    find_longest,
    find_placement,
    fits,
    largest,
)
from devplan.planning.verifier import verify

CONTEXT = "context"
"""The objective that asks for the most tokens."""
SEQUENCES = "sequences"
"""The objective that asks for the largest batch."""


def plan(graph: BlockGraph, request: PlanRequest) -> Plan | Infeasible:
    """The best placement of the blocks that was asked for, verified.

    Parameters
    ----------
    graph
        Blocks in execution order.
    request
        Machine, workload, objective and pins.  For ``context`` and ``sequences`` the plan is made
        at the most tokens, or sequences, that fit, and ``Plan.workload`` holds them.

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
    if graph.components:
        return plan_pipeline(graph, request, place)
    if request.objective == CONTEXT:
        return plan_most_tokens(graph, request)
    if request.objective == SEQUENCES:
        return plan_most_sequences(graph, request)
    return place(graph, request)


def place(graph: BlockGraph, request: PlanRequest) -> Plan | Infeasible:
    """The best placement of the blocks at the request's own workload, verified."""
    if request.objective not in OBJECTIVES:
        known = ", ".join(OBJECTIVES)
        raise InputError(
            f"no objective {request.objective!r}; there are {known}"
            f"{nearest(request.objective, OBJECTIVES)}"
        )
    instance = instance_of(graph, request)
    if request.objective == "latency":
        instance = replace(instance, speeds=speeds_of(request.machine))
    if request.objective == CONTEXT:
        found = find_longest(instance)
    else:
        found = find_placement(instance, OBJECTIVES[request.objective])
    if found is None:
        return explain(instance, request)
    return _verified(found, graph, request)


def _verified(found: FoundPlacement, graph: BlockGraph, request: PlanRequest) -> Plan:
    answer = assemble(found, request.objective)
    verify(answer, graph, request)
    return answer


def instance_of(graph: BlockGraph, request: PlanRequest) -> Instance:
    """The request with its names resolved."""
    machine = request.machine
    for card in machine.cards:
        if card.budget_bytes <= 0:
            raise InputError(
                f"{card.device}: a reserve of {format_bytes(card.reserve_bytes)} leaves nothing of "
                f"its {format_bytes(card.capacity_bytes)}; give a smaller --reserve"
            )
    units = contract(graph)
    user = resolve_user_pins(request.pins, graph, units, machine)
    return Instance(
        graph=graph,
        units=units,
        machine=machine,
        workload=request.workload,
        user_pins=user.devices,
        defaults=default_pins(graph, units) if request.default_pins else {},
        notes=user.notes,
        distances=distances(graph, machine, request.workload),
    )


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
    "{tokens:,} tokens are the model's own limit, not memory's: the GPUs would hold {memory}"
)


def plan_most_tokens(graph: BlockGraph, request: PlanRequest) -> Plan | Infeasible:
    """The placement that holds the most tokens per sequence, planned at that many.

    The context of the request is the least that has to fit.  Where memory holds more than
    ``limit_tokens``, the plan is the most balanced one at the limit, and a note says so.
    Infeasible: not even the request's workload fits.
    """
    request = replace(request, objective=CONTEXT)
    instance = instance_of(graph, request)
    found = find_longest(instance)
    if found is None:
        return explain(instance, request)
    asked, limit = request.workload.tokens, request.limit_tokens
    most, _ = most_tokens(found.instance, found.instance.devices(found.assignment))
    limited = limit is not None and limit >= asked and (most is None or most >= limit)
    tokens = limit if limited else most or asked
    at_most = replace(request, workload=replace(request.workload, context=tokens))
    if limited:
        even = place(graph, replace(at_most, objective="balance", alternatives={}))
        if isinstance(even, Plan):
            return _at_the_limit(even, most)
    found = replace(found, instance=replace(found.instance, workload=at_most.workload))
    answer = _verified(found, graph, at_most)
    return _at_the_limit(answer, most) if limited else answer


def _at_the_limit(answer: Plan, most: int | None) -> Plan:
    tokens = answer.workload.tokens
    memory = "any number" if most is None else f"{most:,}"
    return replace(
        answer,
        certificate=replace(answer.certificate, objective=CONTEXT),
        notes=(*answer.notes, MODEL_LIMIT.format(tokens=tokens, memory=memory)),
    )


def plan_most_sequences(graph: BlockGraph, request: PlanRequest) -> Plan | Infeasible:
    """The most balanced placement of the largest batch that fits at the request's context.

    The batch of the request is the least that has to fit.  ``Plan.workload`` holds the batch,
    `LARGEST_BATCH` where nothing grows with it.  Infeasible: not even the request's workload fits.
    """
    request = replace(request, objective="balance")

    def with_batch(batch: int) -> PlanRequest:
        return replace(request, workload=replace(request.workload, batch=batch))

    def fits_at(batch: int) -> bool:
        if batch > LARGEST_BATCH:
            return False
        return fits(instance_of(graph, with_batch(batch)), max_steps=MAX_STEPS)

    asked = request.workload.batch
    most = largest(fits_at, low=asked) or asked
    return place(graph, with_batch(min(most, LARGEST_BATCH, MAX_TOKENS)))


def fewest_cards(
    graph: BlockGraph, workload: Workload, machine_of: Callable[[int], Machine], *, most: int
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
        request = PlanRequest(machine=machine_of(count), workload=workload)
        return not fits(instance_of(graph, request), max_steps=MAX_STEPS)

    if too_few(most):
        return None
    last = largest(too_few, low=1, high=most)
    return 1 if last is None else last + 1
