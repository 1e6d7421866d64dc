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

from devplan.planning.instance import Pose
from devplan.planning.solvers import chain


def offload_fewest(pose: Pose) -> Pose | None:
    """The pose with the fewest bytes offloaded that contiguous stages fit beside, or None."""
    return _fewest(pose, [])


def offload_fewest_with_towers(pose: Pose) -> Pose | None:
    """The same where layers of towers go before those of the main run."""
    beside = beside_the_main_run(pose)
    return _fewest(pose, beside) if beside else None


def _fewest(pose: Pose, beside: Sequence[int]) -> Pose | None:
    layers = eligible(pose)
    ends = (lambda count: layers[len(layers) - count :], lambda count: layers[:count])
    runs = [_shortest(pose, beside, run_of, len(layers)) for run_of in ends]
    poses = [
        _lightened(pose, run, beside if set(run) <= set(beside) else layers)
        for run in runs
        if run is not None
    ]
    if not poses:
        return None
    return min(poses, key=offloaded_bytes)


def eligible(pose: Pose) -> list[int]:
    """Layers of the main run that may be offloaded, in execution order."""
    units, graph = pose.case.units, pose.case.graph
    ends = {graph.embedding, graph.head}
    return [
        unit
        for unit in pose.chain
        if units.is_stage_bound(unit)
        and len(units.blocks[unit]) == 1
        and units.blocks[unit][0].name not in ends
    ]


def beside_the_main_run(pose: Pose) -> list[int]:
    """Layers of towers that may be offloaded, wherever they are by default, in execution order."""
    case = pose.case
    return [
        unit
        for unit, blocks in enumerate(case.units.blocks)
        if unit not in case.user_pins
        and len(blocks) == 1
        and blocks[0].stack in case.graph.towers
        and not blocks[0].stage_bound
    ]


def offloaded_bytes(pose: Pose) -> int:
    """Weights and buffers outside the cards."""
    return sum(int(pose.case.units.static_bytes[unit]) for unit in pose.tiers)


def _shortest(
    pose: Pose,
    beside: Sequence[int],
    run_of: Callable[[int], Sequence[int]],
    num_layers: int,
) -> Sequence[int] | None:
    """The shortest run that makes the rest fit, of layers beside the main run before any of its.

    Tried one by one: a longer run of the main run's layers is no easier to fit beside, since their
    caches move to the main card.  Volume says where to begin, and the main card when to stop.
    """
    budgets = pose.case.budgets_bytes
    excess = int(pose.case.loads_bytes.sum()) - sum(budgets)
    num_beside = len(beside)
    for length in range(num_beside + num_layers + 1):
        aside, along = min(length, num_beside), max(length - num_beside, 0)
        run = [*beside[num_beside - aside :], *run_of(along)]
        if _static_bytes(pose, run) < excess:
            continue
        offloaded = _with_tiers(pose, run)
        if offloaded is None:
            return None
        if not _bases_fit(offloaded):
            if length < num_beside:
                continue
            return None
        if chain.fits(offloaded.problem()):
            return run
    return None


def _static_bytes(pose: Pose, units: Iterable[int]) -> int:
    return int(pose.case.units.static_bytes[[*pose.tiers, *units]].sum())


def _bases_fit(pose: Pose) -> bool:
    """Whether what is fixed fits; layers of the main run only add to it when they go."""
    slots = (slot for slot in pose.problem().slots if slot.in_use)
    return all(slot.base_bytes + slot.active_bytes <= slot.budget_bytes for slot in slots)


def _fits(pose: Pose, run: Sequence[int]) -> bool:
    offloaded = _with_tiers(pose, run)
    return offloaded is not None and chain.fits(offloaded.problem())


def _with_tiers(pose: Pose, run: Sequence[int]) -> Pose | None:
    """The pose with these layers on the tiers, or None where they do not hold them."""
    static = pose.case.units.static_bytes
    left = {tier.device: tier.capacity_bytes for tier in pose.case.machine.tiers}
    for unit, device in pose.tiers.items():
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
    return replace(pose, offloaded=tier_of)


def _lightened(pose: Pose, run: Sequence[int], layers: Sequence[int]) -> Pose:
    """The run with the heaviest of these layers exchanged for the lightest that still suffices."""
    static = pose.case.units.static_bytes
    heaviest = max((u for u in run if u in layers), key=lambda unit: static[unit], default=None)
    if heaviest is not None:
        rest = [unit for unit in run if unit != heaviest]
        seen = {int(static[heaviest])}
        for unit in sorted(set(layers) - set(run), key=lambda unit: (static[unit], unit)):
            size = int(static[unit])
            if size < static[heaviest] and size not in seen and _fits(pose, [*rest, unit]):
                return _with_tiers(pose, [*rest, unit])
            seen.add(size)
    return _with_tiers(pose, run)
