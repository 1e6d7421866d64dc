"""Which layers go to ``cpu`` or ``disk`` when the cards do not hold everything.

An offloaded block still runs on the main device: its weights come and go, its cache stays there,
and the main card keeps room for the weights of one module at a time.  So every block that goes
costs the main card something, and not all of its bytes are won.

Only whole layers go: embeddings and tied weights are used in several places, and small blocks win
little.  A run of layers at the end of the chain (next to the norm and the head, which are on the
main device too) or at its beginning goes, as short as fits, and its last member is exchanged for a
lighter layer where that suffices.  For layers of equal size these are the fewest bytes that
contiguous stages allow; for unequal ones fewer may exist, and nothing is claimed.

Where no run of the main run's layers suffices, layers of towers go first, from their end: each that
was pinned to the main card wins room there.  Then the same is asked with all of them gone.

A tier is filled in the order in which the machine names them, block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from devplan.planning.instance import Instance
from devplan.planning.solvers import chain


def offload_fewest(instance: Instance) -> Instance | None:
    """The instance with the fewest bytes offloaded that contiguous stages fit beside, or None."""
    return _fewest(instance, [])


def offload_fewest_with_towers(instance: Instance) -> Instance | None:
    """The same where layers of towers go before those of the main run."""
    beside = beside_the_main_run(instance)
    return _fewest(instance, beside) if beside else None


def _fewest(instance: Instance, beside: Sequence[int]) -> Instance | None:
    layers = eligible(instance)
    ends = (lambda count: layers[len(layers) - count :], lambda count: layers[:count])
    runs = [_shortest(instance, beside, run_of, len(layers)) for run_of in ends]
    instances = [
        _lightened(instance, run, beside if set(run) <= set(beside) else layers)
        for run in runs
        if run is not None
    ]
    if not instances:
        return None
    return min(instances, key=offloaded_bytes)


def eligible(instance: Instance) -> list[int]:
    """Layers of the main run that may be offloaded, in execution order."""
    units, graph = instance.units, instance.graph
    ends = {graph.embedding, graph.head}
    return [
        unit
        for unit in instance.chain
        if units.is_stage_bound(unit)
        and len(units.blocks[unit]) == 1
        and units.blocks[unit][0].name not in ends
    ]


def beside_the_main_run(instance: Instance) -> list[int]:
    """Layers of towers that may be offloaded, wherever they are by default, in execution order."""
    return [
        unit
        for unit, blocks in enumerate(instance.units.blocks)
        if unit not in instance.user_pins
        and len(blocks) == 1
        and blocks[0].stack in instance.graph.towers
        and not blocks[0].stage_bound
    ]


def offloaded_bytes(instance: Instance) -> int:
    """Weights and buffers outside the cards."""
    return sum(int(instance.units.static_bytes[unit]) for unit in instance.tiers)


def _shortest(
    instance: Instance,
    beside: Sequence[int],
    run_of: Callable[[int], Sequence[int]],
    num_layers: int,
) -> Sequence[int] | None:
    """The shortest run that makes the rest fit, of layers beside the main run before any of its.

    Tried one by one: a longer run of the main run's layers is no easier to fit beside, since their
    caches move to the main card.  Volume says where to begin, and the main card when to stop.
    """
    budgets = instance.budgets_bytes
    excess = int(instance.loads_bytes.sum()) - sum(budgets)
    num_beside = len(beside)
    for length in range(num_beside + num_layers + 1):
        aside, along = min(length, num_beside), max(length - num_beside, 0)
        run = [*beside[num_beside - aside :], *run_of(along)]
        if _static_bytes(instance, run) < excess:
            continue
        offloaded = _with_tiers(instance, run)
        if offloaded is None:
            return None
        if not _bases_fit(offloaded):
            if length < num_beside:
                continue
            return None
        if chain.fits(offloaded.problem()):
            return run
    return None


def _static_bytes(instance: Instance, units: Iterable[int]) -> int:
    return int(instance.units.static_bytes[[*instance.tiers, *units]].sum())


def _bases_fit(instance: Instance) -> bool:
    """Whether what is fixed fits; layers of the main run only add to it when they go."""
    slots = (slot for slot in instance.problem().slots if slot.in_use)
    return all(slot.base_bytes + slot.active_bytes <= slot.budget_bytes for slot in slots)


def _fits(instance: Instance, run: Sequence[int]) -> bool:
    offloaded = _with_tiers(instance, run)
    return offloaded is not None and chain.fits(offloaded.problem())


def _with_tiers(instance: Instance, run: Sequence[int]) -> Instance | None:
    """The instance with these layers on the tiers, or None where they do not hold them."""
    static = instance.units.static_bytes
    left = {tier.device: tier.capacity_bytes for tier in instance.machine.tiers}
    for unit, device in instance.tiers.items():
        if left[device] is not None:
            left[device] -= int(static[unit])
    if any(room is not None and room < 0 for room in left.values()):
        return None
    tier_of = {}
    for unit in run:
        size = int(static[unit])
        device = next((d for d, room in left.items() if room is None or room >= size), None)
        if device is None:
            return None
        tier_of[unit] = device
        if left[device] is not None:
            left[device] -= size
    return replace(instance, offloaded=tier_of)


def _lightened(instance: Instance, run: Sequence[int], layers: Sequence[int]) -> Instance:
    """The run with the heaviest of these layers exchanged for the lightest that still suffices."""
    static = instance.units.static_bytes
    heaviest = max((u for u in run if u in layers), key=lambda unit: static[unit], default=None)
    if heaviest is not None:
        rest = [unit for unit in run if unit != heaviest]
        seen = {int(static[heaviest])}
        for unit in sorted(set(layers) - set(run), key=lambda unit: (static[unit], unit)):
            size = int(static[unit])
            if size < static[heaviest] and size not in seen and _fits(instance, [*rest, unit]):
                return _with_tiers(instance, [*rest, unit])
            seen.add(size)
    return _with_tiers(instance, run)
