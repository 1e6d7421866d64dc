"""What "best" means: for each objective, from a pose to contiguous stages within budget, and from a
problem to a packing where no contiguous stages fit.

A function from a pose returns None when no contiguous stages fit at the workload.  All but
`latency` put transfers last: among assignments that are equally good otherwise, the one whose
transfers take the least time is taken (the fewest, where all links are alike).

The objective ``context`` is two questions: how many tokens fit (`most_tokens`), and
the placement at that many, of which nothing more is asked than that it fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from devplan.planning import latency as speed
from devplan.planning.instance import Pose
from devplan.planning.problem import Assignment, Problem, share_of
from devplan.planning.solvers import chain, packing
from devplan.planning.solvers.packing import Packing

FULL = chain.WHOLE


def balance(pose: Pose) -> Assignment | None:
    """The smallest largest share."""
    problem = pose.problem()
    share = chain.smallest_share(problem)
    return None if share is None or share > FULL else chain.arrange(problem, share)


def fitting(pose: Pose) -> Assignment | None:
    """Whatever fits."""
    return chain.arrange(pose.problem(), FULL)


def fewest(pose: Pose) -> Assignment | None:
    """The fewest cards, then the smallest largest share on that many."""
    problem = pose.problem()
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


def _chain_is_exact(pose: Pose) -> bool:
    return chain.is_exact(pose.problem())


@dataclass(frozen=True, kw_only=True)
class Objective:
    """How contiguous stages are found, and what stands in for them where there are none."""

    contiguous: Callable[[Pose], Assignment | None]
    packed: Callable[..., Packing] = pack_evenly
    """Of a problem, within ``max_steps``."""
    solver: str = "chain"
    """Name of the solver of contiguous stages."""
    is_exact: Callable[[Pose], bool] = _chain_is_exact
    """Whether that solver's answer is proven best in a pose."""


OBJECTIVES: Mapping[str, Objective] = {
    "balance": Objective(contiguous=balance),
    "context": Objective(contiguous=fitting, packed=packing.pack_within),
    "fewest": Objective(contiguous=fewest),
    "latency": Objective(contiguous=speed.latency, solver="fastest", is_exact=speed.is_exact),
}
"""What the user may ask for, by name."""
