"""What "best" means: for each objective, a function from an instance to contiguous stages within
budget, and one from a problem to a packing where no contiguous stages fit.

A function from a instance returns None when no contiguous stages fit at the workload.  All but
`latency` put transfers last: among assignments that are equally good otherwise, the one whose
transfers take the least time is taken (the fewest, where all links are alike).

The objective ``context`` is two questions: how many tokens fit (`devplan.planning.search`), and
which placement holds that many; any that fits will do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from devplan.core import STEPS, Block, BlockGraph, Machine, Workload, ensure
from devplan.machine import link_between
from devplan.planning.instance import Instance
from devplan.planning.problem import Assignment, Problem, share_of
from devplan.planning.routes import execution_device, hidden_bytes
from devplan.planning.solvers import chain, fastest, packing
from devplan.planning.solvers.fastest import Costs, seconds_of
from devplan.planning.solvers.packing import Packing
from devplan.planning.speed import Request, fastest_bound, offload_copies

FULL = chain.WHOLE


def balance(instance: Instance) -> Assignment | None:
    """The smallest largest share."""
    problem = instance.problem()
    share = chain.smallest_share(problem)
    return None if share is None or share > FULL else chain.arrange(problem, share)


def fitting(instance: Instance) -> Assignment | None:
    """Whatever fits."""
    return chain.arrange(instance.problem(), FULL)


def fewest(instance: Instance) -> Assignment | None:
    """The fewest cards, then the smallest largest share on that many."""
    problem = instance.problem()
    num_new = chain.fewest_new_slots(problem)
    if num_new is None:
        return None
    share = chain.smallest_share(problem, max_new_slots=num_new)
    return chain.arrange(problem, share, max_new_slots=num_new)


def pack_evenly(problem: Problem, *, max_steps: int) -> Packing:
    """The packing with the smallest largest share; none where none fits."""
    within = packing.pack_within(problem, max_steps=max_steps)
    if within.assignment is None:
        return within
    packed = packing.pack(problem, max_steps=max_steps)
    return within if share_of(problem, packed.assignment) > FULL else packed


def _chain_is_exact(instance: Instance) -> bool:
    return chain.is_exact(instance.problem())


# ------------------------------------------------------------------------------------------ latency
#
# The time of a placement is a sum over units and crossings (`devplan.planning.speed`), so the
# dynamic programme of `fastest` is exact for contiguous stages as long as every crossing is at a
# cut or at an end of the chain.  Otherwise (`latency_is_exact`) the answer is good and not proven.
#
# Of equally fast placements the one with the smallest largest share is taken: equal cards are then
# filled as evenly as costs nothing.


SAME = 1e-9
"""Times that differ by less, relatively, are the same: sums of floats in another order."""
MAX_TRIALS = 10
"""Of the search for an even share; each halves what is left."""


def latency(instance: Instance) -> Assignment | None:
    """The fastest contiguous stages within budget; of equally fast ones, the most even."""
    problem, costs = instance.problem(), costs_of(instance)
    best = fastest.fastest(problem, costs)
    if best is None:
        return None
    limit_s = seconds_of(problem, costs, best) * (1 + SAME)
    low, high = chain.smallest_share(problem), share_of(problem, best)
    for _ in range(MAX_TRIALS):
        if low is None or low >= high:
            break
        middle = Fraction(float(low + high) / 2)
        tried = fastest.fastest(problem, costs, share=middle)
        if tried is None or seconds_of(problem, costs, tried) > limit_s:
            low = middle
        else:
            best, high = tried, share_of(problem, tried)
    return best


def costs_of(instance: Instance) -> Costs:
    """Seconds of the request: of every unit of the chain on every card, and of every crossing."""
    ensure(instance.speeds is not None, "the planner looks up the speeds for this objective")
    seconds = unit_seconds(instance)[list(instance.chain)]
    shared = [
        [
            _shared_seconds(instance, instance.units.blocks[unit], device)
            for device in instance.machine.devices
        ]
        for unit in instance.chain
    ]
    item_s = seconds + np.array(shared, dtype=float).reshape(seconds.shape)
    entering = [_entering_bytes(instance, unit) for unit in instance.chain]
    entering.append(_leaving_bytes(instance))
    return Costs(item_s=item_s, cross_s=crossing_seconds(instance, entering))


def unit_seconds(instance: Instance) -> np.ndarray:
    """Seconds of the request that every unit takes on every card.  # [units, cards]"""
    request = _request(instance)
    kinds: dict[tuple, list[float]] = {}

    def of(block: Block) -> list[float]:
        # Layers are alike: a few kinds of blocks stand for all.
        cached = block.cache_bytes(instance.workload.tokens, instance.workload.batch)
        kind = (block.work, block.weight_bytes, cached, block.name == instance.graph.embedding)
        if kind not in kinds:
            kinds[kind] = [
                request.weighed({s: request.block_seconds(block, s, speed) for s in STEPS})
                for speed in instance.speeds
            ]
        return kinds[kind]

    rows = [np.sum([of(block) for block in blocks], axis=0) for blocks in instance.units.blocks]
    return np.array(rows).reshape(len(rows), len(instance.speeds))


def crossing_seconds(instance: Instance, entering_bytes: Sequence[int]) -> np.ndarray:
    """Seconds of the request to carry that many bytes a token from card to card.

    # [positions, cards, cards]
    """
    request = _request(instance)
    devices = instance.machine.devices
    links = [[_rates(instance.machine, a, b) for b in devices] for a in devices]
    table = np.array(links).reshape(len(devices), len(devices), 2)
    sizes = np.array(entering_bytes, dtype=float)[:, None, None]
    tokens = request.weighed({step: request.tokens(step) for step in STEPS})
    return sum(request.num_steps.values()) * table[:, :, 0] + tokens * sizes * table[:, :, 1]


def _rates(machine: Machine, source: str, target: str) -> tuple[float, float]:
    """(seconds of a copy, seconds of a byte); nothing on one card."""
    if source == target:
        return 0.0, 0.0
    link = link_between(machine, source, target)
    return link.latency_s, 1 / link.bytes_per_s


def _entering_bytes(instance: Instance, unit: int) -> int:
    """For one token of one sequence."""
    return instance.units.blocks[unit][0].input_bytes_per_token


def _leaving_bytes(instance: Instance) -> int:
    """What enters the block that the route goes on with behind the chain."""
    walk = instance.units.route
    after = None
    for unit in reversed(walk):
        if unit not in instance.fixed:
            break
        after = unit
    return hidden_bytes(instance.graph) if after is None else _entering_bytes(instance, after)


def _shared_seconds(instance: Instance, blocks: Sequence[Block], device: str) -> float:
    """Copies of shared activations to these blocks if they are on a card."""
    request, machine = _request(instance), instance.machine
    return sum(
        request.copy_seconds(
            machine, _maker_device(instance, item.maker), device, item.bytes_per_token
        )
        for block in blocks
        for item in block.shared_inputs
    )


def _maker_device(instance: Instance, maker: str | None) -> str:
    """Of a maker that is spread itself nothing is known yet: the main device is taken."""
    main = instance.machine.main_device
    unit = instance.units.of.get(maker) if maker else None
    return execution_device(instance.fixed.get(unit, main), main)


def _request(instance: Instance) -> Request:
    return Request(graph=instance.graph, workload=instance.workload)


# -------------------------------------------------------------------------------- what is proven


def latency_is_exact(instance: Instance) -> bool:
    """Whether it is proven that no contiguous stages take less time (`devplan.planning.speed`).

    Besides the limit of the solver: no block of the route lies fixed between two of the chain, the
    chain holds nothing that is not on the route, and no shared activations are made in it.
    """
    problem = instance.problem()
    on_route = [unit for unit in dict.fromkeys(instance.units.route)]
    in_chain = [index for index, unit in enumerate(on_route) if unit in instance.chain_set]
    in_line = not in_chain or in_chain[-1] - in_chain[0] + 1 == len(in_chain) == len(instance.chain)
    single = all(len(instance.units.blocks[unit]) == 1 for unit in instance.chain)
    makers = {i.maker for block in instance.graph.blocks for i in block.shared_inputs if i.maker}
    made = any(instance.units.of.get(maker) in instance.chain_set for maker in makers)
    return in_line and single and not made and fastest.is_exact(problem, costs_of(instance))


def request_bound(instance: Instance, on_cards: np.ndarray, attained_s: float) -> float:
    """Seconds of the request that no placement with the same blocks offloaded goes below."""
    seconds, tokens = unit_seconds(instance), instance.workload.tokens
    main = instance.machine.devices.index(instance.machine.main_device)
    request = _request(instance)
    fixed = float(seconds[~on_cards, main].sum())
    fixed += request.weighed({s: request.between_seconds(s, instance.speeds[main]) for s in STEPS})
    fixed += request.weighed({s: _offload_seconds(instance, s) for s in STEPS})
    rooms = instance.loosest_budgets_at(tokens, on_cards)
    loads = instance.loads_at(tokens)[on_cards]
    return fixed + fastest_bound(seconds[on_cards], loads, rooms, attained_s - fixed)


def _offload_seconds(instance: Instance, step: str) -> float:
    """What bringing the offloaded weights to the main card takes at least: their bytes."""
    placement = {
        name: instance.fixed.get(unit, instance.machine.main_device)
        for name, unit in instance.units.of.items()
    }
    return sum(
        size / link_between(instance.machine, *ends).bytes_per_s
        for ends, (_, size) in offload_copies(instance.graph, instance.machine, placement, step)
    )


def distances(graph: BlockGraph, machine: Machine, workload: Workload):
    """Seconds of the request to hand hidden states from card to card; None where all are equal."""
    request = Request(graph=graph, workload=workload)
    size, devices = hidden_bytes(graph), machine.devices
    table = tuple(
        tuple(request.copy_seconds(machine, a, b, size) for b in devices) for a in devices
    )
    apart = {table[i][j] for i in range(len(devices)) for j in range(len(devices)) if i != j}
    return table if len(apart) > 1 else None


# ------------------------------------------------------------------------------------------- table


@dataclass(frozen=True, kw_only=True)
class Objective:
    """How contiguous stages are found, and what stands in for them where there are none."""

    contiguous: Callable[[Instance], Assignment | None]
    packed: Callable[..., Packing] = pack_evenly
    """Of a problem, within ``max_steps``."""
    solver: str = "chain"
    """Name of the solver of contiguous stages."""
    is_exact: Callable[[Instance], bool] = _chain_is_exact
    """Whether that solver's answer is proven best in a instance."""


OBJECTIVES: Mapping[str, Objective] = {
    "balance": Objective(contiguous=balance),
    "context": Objective(contiguous=fitting, packed=packing.pack_within),
    "fewest": Objective(contiguous=fewest),
    "latency": Objective(contiguous=latency, solver="fastest", is_exact=latency_is_exact),
}
"""What the user may ask for, by name."""
