"""Contiguous stages, exactly, over every order of unequal cards.

The question *do the items fit when no share is above s?* has a greedy core: a card whose stage
starts at item ``p`` takes as many items as it can, since getting further never hurts.  Which cards
were used matters, their order does not:

    reached(no cards) = 0
    reached(cards)    = max over the last card c of  next_c(reached(cards without c))

where ``next_c(p)`` is the first item that no longer fits when ``c`` starts at ``p``, or that is
pinned to another card.  The items fit when some state reaches the end.

The smallest share is one of finitely many ratios (a run of items and a base load over a budget).
The search keeps a lower end below which every share is known to fail, and an upper end that some
placement attains.  A trial that succeeds lowers the upper end to what its placement attains; one
that fails raises the lower end to the smallest ratio at which any step from any position reached
would get further, since up to there nothing changes.  Where the ends meet is the optimum, an exact
fraction: floats choose trial points and nothing else.

Equal cards are grouped (see `card_states`).  Where even that leaves too many states, the most
alike cards are pooled (see `card_groups`): the placement is valid, but no longer proven best, and
`is_exact` says so.

References
----------
A. Pinar and C. Aykanat, "Fast optimal load balancing algorithms for 1D partitioning", Journal of
Parallel and Distributed Computing 64 (2004), 974-996: probes, and bisection over attained values.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from devplan.planning.problem import Assignment, Problem, num_transfers, share_of, transfer_cost
from devplan.planning.solvers.fastest import nearest_stages
from devplan.planning.solvers.reach import Reach, are_exact, card_groups

WHOLE = Fraction(1)
"""The share of a full card."""


def solve(problem: Problem) -> Assignment | None:
    """The contiguous assignment with the smallest share and, among those, the fewest transfers.

    None when pins leave no contiguous assignment.
    """
    share = smallest_share(problem)
    return None if share is None else arrange(problem, share)


def fits(problem: Problem, *, share: Fraction = WHOLE) -> bool:
    """Whether a contiguous assignment stays within the share on every slot."""
    reach = Reach(problem)
    if share < reach.floor():
        return False
    return bool((reach.trial(share).reached >= reach.num_items).any())


def smallest_share(problem: Problem, *, max_new_slots: int | None = None) -> Fraction | None:
    """The smallest share of a contiguous assignment, exactly; None when there is none.

    `max_new_slots` bounds how many slots may be used that were not in use.
    """
    reach = Reach(problem)
    allowed = _allowed_states(reach, max_new_slots)
    low, high, step = reach.floor(), None, Fraction(1, 64)
    share = low
    while high is None or low < high:
        trial = reach.trial(share)
        ends = (trial.reached >= reach.num_items) & allowed
        if ends.any():
            order = reach.order(trial, int(ends.argmax()), reach.num_items)
            high = share_of(problem, reach.spread(order, share))
        else:
            low = reach.next_share(trial)
            if low is None:
                return None
        share = low * (1 + step) if high is None else _between(low, high)
        step *= 2
    return high


def fewest_new_slots(problem: Problem, *, share: Fraction = WHOLE) -> int | None:
    """How many slots the items need at this share besides those in use; None: all are too few."""
    reach = Reach(problem)
    if share < reach.floor():
        return None
    ends = reach.trial(share).reached >= reach.num_items
    return int(reach.num_new[ends].min()) if ends.any() else None


def arrange(
    problem: Problem, share: Fraction, *, max_new_slots: int | None = None
) -> Assignment | None:
    """A contiguous assignment within the share: shortest transfers, then the main slot first.

    Within the order of cards that is chosen, the items are spread as evenly as the share allows.
    """
    reach = Reach(problem)
    if share < reach.floor():
        return None
    found = [reach.spread(order, share) for order in _orders(reach, share, max_new_slots)]
    if problem.distances is not None:  # fewer transfers may take longer, and an order matters
        near = nearest_stages(problem, share, max_new_slots)
        # [spread] may leave a slot empty, and what is then neighbours may be far apart.
        found += [reach.spread(list(dict.fromkeys(near)), share), near] if near else []
    return min(found, key=lambda assignment: _cost(problem, assignment), default=None)


def is_exact(problem: Problem) -> bool:
    """Whether no cards had to be pooled, so that the answers of this module are proven."""
    return are_exact(problem, card_groups(problem))


def _cost(problem: Problem, assignment: Assignment) -> tuple[float, int, bool]:
    seconds, number = transfer_cost(problem, assignment), num_transfers(problem, assignment)
    return seconds, number, assignment[:1] != (problem.main,)


def _between(low: Fraction, high: Fraction) -> Fraction:
    """A short fraction in [low, high), near the middle."""
    middle = Fraction(float(low + high) / 2)
    return middle if low <= middle < high else low


def _allowed_states(reach: Reach, max_new_slots: int | None):
    limit = len(reach.problem.slots) if max_new_slots is None else max_new_slots
    return reach.num_new <= limit


def _orders(reach: Reach, share: Fraction, max_new_slots: int | None) -> Iterator[list[int]]:
    """For each way to begin and end the chain, the order with the fewest slots, if there is one.

    The number of transfers is the number of stages, and one more for each end of the chain whose
    neighbour outside is on another slot; so the best is among these.
    """
    problem = reach.problem
    for first in dict.fromkeys((problem.main, problem.first, None)):
        for last in dict.fromkeys((None, problem.last)):
            if first is None or first != last:
                order = _order(reach, share, first, last, max_new_slots)
                if order is not None:
                    yield order


def _order(
    reach: Reach, share: Fraction, first: int | None, last: int | None, max_new_slots: int | None
) -> list[int] | None:
    """Fewest slots that hold the items, beginning with `first` and ending with `last`."""
    begin = 0 if first is None else reach.stage_end(first, 0, share)
    goal = reach.num_items if last is None else reach.stage_start(last, reach.num_items, share)
    fixed = {slot for slot in (first, last) if slot is not None}
    num_fixed_new = sum(not reach.problem.slots[slot].in_use for slot in fixed)
    limit = len(reach.problem.slots) if max_new_slots is None else max_new_slots - num_fixed_new
    trial = reach.trial_between(share, begin, fixed)
    ends = (trial.reached >= goal) & (reach.num_new <= limit)
    if not ends.any():
        return None
    # States are numbered by their number of slots: the first has the fewest.
    between = reach.order(trial, int(ends.argmax()), goal)
    return [s for s in (first, *between, last) if s is not None]
