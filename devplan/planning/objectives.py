"""What "best" means: one function an objective, from a pose to contiguous stages within budget.

Each returns None when no contiguous stages fit at the workload.  All but `latency` put transfers
last: among assignments that are equally good otherwise, the one whose transfers take the least time
is taken (the fewest, where all links are alike).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from devplan.planning import latency as speed
from devplan.planning import tokens as search
from devplan.planning.pose import Pose
from devplan.planning.problem import Assignment
from devplan.planning.solvers import chain

FULL = chain.WHOLE


def balance(pose: Pose) -> Assignment | None:
    """The smallest largest share."""
    return _balance_at(pose, pose.case.workload.context_tokens)


def context(pose: Pose) -> Assignment | None:
    """The most tokens per sequence before the first card is full.

    Where no number of tokens fills a card, since every cache stops growing, the smallest largest
    share once all have stopped.
    """
    workload_tokens = pose.case.workload.context_tokens
    most = search.largest(lambda n: chain.fits(pose.problem(n)), low=workload_tokens)
    if most is None:
        return None
    if most >= search.MAX_TOKENS:
        return _balance_at(pose, search.MAX_TOKENS)
    return chain.arrange(pose.problem(most), FULL)


def _balance_at(pose: Pose, tokens: int) -> Assignment | None:
    problem = pose.problem(tokens)
    share = chain.smallest_share(problem)
    return None if share is None or share > FULL else chain.arrange(problem, share)


def fewest(pose: Pose) -> Assignment | None:
    """The fewest cards, then the smallest largest share on that many."""
    problem = pose.problem()
    num_new = chain.fewest_new_slots(problem)
    if num_new is None:
        return None
    share = chain.smallest_share(problem, max_new_slots=num_new)
    return chain.arrange(problem, share, max_new_slots=num_new)


Objective = Callable[[Pose], Assignment | None]

OBJECTIVES: Mapping[str, Objective] = {
    "balance": balance,
    "context": context,
    "fewest": fewest,
    "latency": speed.latency,
}
"""What the user may ask for, by name."""


def solver_of(objective: Objective) -> str:
    """Name of the solver that an objective asks for contiguous stages."""
    return "fastest" if objective is speed.latency else "chain"


def is_exact(objective: Objective, pose: Pose) -> bool:
    """Whether that solver's answer is proven best in this pose."""
    if objective is speed.latency:
        return speed.is_exact(pose)
    return chain.is_exact(pose.problem())
