"""Why nothing fits: which card lacks how much in the best placement, and whether that is proven.

Proven means: the lower bound over all placements is above 1, or the exact packing found none even
with every default pin given up.  With offloading allowed only the pins can prove anything, as
blocks may leave the cards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

from devplan.core import BlockGraph, Infeasible, Shortfall, ensure, format_bytes
from devplan.planning.bounds import lower_bound
from devplan.planning.instance import Case, Pose
from devplan.planning.problem import Assignment, Problem, slot_loads, slot_rooms
from devplan.planning.remedies import remedies_for
from devplan.planning.search import loosest, relaxations
from devplan.planning.solvers import chain, packing


def explain(
    case: Case, pins: Mapping[str, str], alternatives: Mapping[str, Callable[[], BlockGraph]]
) -> Infeasible:
    """What is missing where, and the smallest changes that would make it fit."""
    bound = lower_bound(case.loads_bytes, case.loosest_budgets_bytes)
    problem, assignment = _best_overflowing(case)
    proven = _is_proven(case, bound)
    return Infeasible(
        reason=_reason(case, bound, problem, assignment, proven),
        shortfalls=_shortfalls(problem, assignment),
        lower_bound=float(bound),
        proven=proven,
        remedies=remedies_for(case, pins, alternatives),
    )


def _best_overflowing(case: Case) -> tuple[Problem, Assignment]:
    """The placement on the cards alone that overflows least, as far as one was found."""
    problems = [Pose(case=case, relaxed=relaxed).problem() for relaxed in relaxations(case)]
    problems.append(loosest(case).problem())
    shares = [chain.smallest_share(problem) for problem in problems]
    share, index = min((s, i) for i, s in enumerate(shares) if s is not None)
    assignment = chain.arrange(problems[index], share)
    ensure(assignment is not None, "the share was attained")
    return problems[index], assignment


def _is_proven(case: Case, bound: Fraction) -> bool:
    if case.machine.tiers:
        return False
    if bound > 1:
        return True
    within = packing.pack_within(loosest(case).problem())
    return within.proven and within.assignment is None


def _shortfalls(problem: Problem, assignment: Assignment) -> tuple[Shortfall, ...]:
    pairs = zip(slot_loads(problem, assignment), slot_rooms(problem, assignment), strict=True)
    return tuple(
        Shortfall(device=slot.device, missing_bytes=load - room)
        for slot, (load, room) in zip(problem.slots, pairs, strict=True)
        if load > room
    )


def _reason(
    case: Case, bound: Fraction, problem: Problem, assignment: Assignment, proven: bool
) -> str:
    needed, offered = int(case.loads_bytes.sum()), sum(case.loosest_budgets_bytes)
    if needed > offered:
        return _too_little(case, needed, offered)
    if bound > 1:
        return (
            f"every placement fills some card to at least {float(bound):.3f} of its budget: "
            f"{format_bytes(needed)} would fit into {format_bytes(offered)}, "
            "but blocks cannot be divided that way"
        )
    worst = max(_shortfalls(problem, assignment), key=lambda s: s.missing_bytes, default=None)
    claim = "no placement fits" if proven else "no placement was found"
    pinned = " with these pins" if case.user_pins else ""
    lacks = f": at best {worst.device} lacks {format_bytes(worst.missing_bytes)}" if worst else ""
    return f"{claim}{pinned}{lacks}"


def _too_little(case: Case, needed: int, offered: int) -> str:
    workload = case.workload
    cache = int(case.units.cache_bytes(workload.context_tokens, workload.batch).sum())
    return (
        f"needs {format_bytes(needed)}, {format_bytes(cache)} of it cache for "
        f"{workload.context_tokens} tokens x batch {workload.batch}; the cards hold "
        f"{format_bytes(offered)}: {format_bytes(needed - offered)} are missing"
    )
