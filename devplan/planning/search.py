"""The order in which a case is tried, from what is wished most to what merely fits.

1. All default pins kept: contiguous stages; then stages that close over pinned layers; then a
   packing that is not contiguous.
2. The same with the default pins of one rung of the ladder after another given up, until
   something fits; then every rung that need not have been given up is restored.
3. With offloading, where it was allowed: the fewest bytes, default pins as in 1 and 2.
4. The same with layers of towers offloaded before those of the main run.

Whatever is proven to be hopeless by volume is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from devplan.core import ensure
from devplan.planning.bounds import exceeds
from devplan.planning.instance import Case, Pose, has_pinned_layers
from devplan.planning.objectives import Objective
from devplan.planning.offload import offload_fewest, offload_fewest_with_towers
from devplan.planning.pins import ladder
from devplan.planning.problem import Assignment
from devplan.planning.solvers import chain, packing


@dataclass(frozen=True, eq=False, kw_only=True)
class Found:
    """A placement that fits, the pose it answers, and what is proven about it."""

    pose: Pose
    assignment: Assignment
    solver: str
    optimal_within: str
    is_most: bool = False
    """Whether it is proven that no placement holds more tokens, with the same blocks offloaded."""
    tokens_in_stages: int | None = None
    """Most tokens that contiguous stages hold; None: not asked."""
    given_up_for: Mapping[tuple[int, ...], str] = field(default_factory=dict)
    """Rung of default pins that gave way -> why; what is not named gave way to fit at all."""


def find(case: Case, objective: Objective, *, max_steps: int = packing.MAX_STEPS) -> Found | None:
    """The best placement that fits, in the order above; None when none was found."""
    if not exceeds(case.loads_bytes, case.loosest_budgets_bytes):
        rungs = relaxations(case)
        for relaxed in rungs:
            found = find_posed(case, relaxed, objective, max_steps)
            if found is not None:
                return _restored(case, found, objective, max_steps)
    return _find_offloaded(case, objective)


def fits(case: Case, *, max_steps: int = packing.MAX_STEPS) -> bool:
    """Whether `find` would find anything, without looking for the best."""
    if not exceeds(case.loads_bytes, case.loosest_budgets_bytes):
        poses = (pose for relaxed in relaxations(case) for pose in poses_of(case, relaxed))
        if any(_fits_posed(pose, max_steps) for pose in poses):
            return True
    return find_offload(case) is not None


def find_offload(case: Case) -> Pose | None:
    """The first pose, by what is relaxed, in which offloading makes the rest fit."""
    if not case.machine.tiers:
        return None
    poses = (
        fewest(Pose(case=case, relaxed=relaxed, pinned_layers_in_chain=False))
        for fewest in (offload_fewest, offload_fewest_with_towers)
        for relaxed in relaxations(case)
    )
    return next((pose for pose in poses if pose is not None), None)


def relaxations(case: Case) -> Iterator[frozenset[int]]:
    """Default pins to give up: none, then rung after rung of the ladder."""
    relaxed: frozenset[int] = frozenset()
    yield relaxed
    for rung in rungs(case):
        relaxed |= frozenset(rung)
        yield relaxed


def rungs(case: Case) -> list[tuple[int, ...]]:
    """The ladder without what the user pinned."""
    free = {unit: role for unit, role in case.defaults.items() if unit not in case.user_pins}
    return ladder(free)


def find_posed(
    case: Case, relaxed: frozenset[int], objective: Objective, max_steps: int
) -> Found | None:
    """The best placement with these default pins given up."""
    for pose in poses_of(case, relaxed):
        assignment = objective.contiguous(pose)
        if assignment is not None:
            return found_contiguous(pose, assignment, objective)
    return _find_packed(pose, objective, max_steps)


def poses_of(case: Case, relaxed: frozenset[int]) -> Iterator[Pose]:
    """Pinned layers in line with their card's stage; then, if there are any, out of line."""
    if has_pinned_layers(case):
        yield Pose(case=case, relaxed=relaxed)
    yield Pose(case=case, relaxed=relaxed, pinned_layers_in_chain=not has_pinned_layers(case))


def loosest(case: Case) -> Pose:
    """No default pin kept, stages closing over pinned layers."""
    every = frozenset(case.defaults) - frozenset(case.user_pins)
    return Pose(case=case, relaxed=every, pinned_layers_in_chain=False)


def _fits_posed(pose: Pose, max_steps: int) -> bool:
    problem = pose.problem()
    return chain.fits(problem) or packing.fits(problem, max_steps=max_steps)


def found_contiguous(pose: Pose, assignment: Assignment, objective: Objective) -> Found:
    """A placement in stages, and the class in which it is proven best."""
    kept = "user pins and default pins kept"
    if pose.relaxed:
        kept = "user pins kept, default pins kept but for those given up"
    if not pose.case.defaults:
        kept = "user pins kept"
    stages = "contiguous stages in execution order"
    if pose.offloaded:
        stages = "contiguous stages of the layers that are neither pinned nor offloaded"
    elif not pose.pinned_layers_in_chain:
        stages = "contiguous stages of the layers that are not pinned"
    exact = objective.is_exact(pose)
    proven = f"{stages}, any order of the cards, {kept}" if exact else ""
    return Found(pose=pose, assignment=assignment, solver=objective.solver, optimal_within=proven)


def _find_packed(pose: Pose, objective: Objective, max_steps: int) -> Found | None:
    packed = objective.packed(pose.problem(), max_steps=max_steps)
    if packed.assignment is None:
        return None
    proven = "all placements with these pins, by largest share" if packed.proven else ""
    return Found(pose=pose, assignment=packed.assignment, solver="packing", optimal_within=proven)


def _restored(case: Case, found: Found, objective: Objective, max_steps: int) -> Found:
    """The placement with every default pin restored that need not have been given up."""
    for rung in reversed(rungs(case)):
        relaxed = found.pose.relaxed - frozenset(rung)
        if relaxed != found.pose.relaxed:
            found = find_posed(case, relaxed, objective, max_steps) or found
    return found


def _find_offloaded(case: Case, objective: Objective) -> Found | None:
    pose = find_offload(case)
    if pose is None:
        return None
    assignment = objective.contiguous(pose)
    ensure(assignment is not None, "the offload was chosen so that the rest fits")
    return found_contiguous(pose, assignment, objective)
