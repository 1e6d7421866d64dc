"""The objective ``context``: the most tokens per sequence that fit, and the placement at that many.

The question *do so many tokens fit?* is asked with rising numbers, first of contiguous stages,
with rung after rung of default pins given up, then of packings of everything.  It is monotone, as
loads and activations never fall with tokens.  The placement is then the first in the usual order
of attempts (`devplan.planning.search`) that fits at the most: default pins with which as many fit
are kept, the others give way, and why is said with the tokens that keeping them would cost.

With offloading the layers to offload are chosen at the workload, and the most tokens are those of
contiguous stages beside them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from devplan.core import ensure
from devplan.planning.bisection import MAX_TOKENS, largest
from devplan.planning.instance import Case, Pose
from devplan.planning.objectives import OBJECTIVES, Objective
from devplan.planning.search import (
    Found,
    find,
    found_contiguous,
    loosest,
    poses_of,
    relaxations,
    rungs,
)
from devplan.planning.solvers import chain, packing

MAX_STEPS = 20_000
"""Of a packing, in a trial; 20 to 40 ms."""
FEWER_STEPS = 2_000
"""The same where only a reason is asked for; 2 to 4 ms."""
CONTEXT, BALANCE = OBJECTIVES["context"], OBJECTIVES["balance"]
EVERYWHERE = "all placements{pins}, by most tokens"
IN_STAGES = (
    "contiguous stages in execution order, any order of the cards, default pins kept or given up "
    "rung by rung, by most tokens"
)


def find_longest(case: Case) -> Found | None:
    """The placement that holds the most tokens; None when nothing fits at the workload."""
    first = find(case, CONTEXT)
    if first is None or first.pose.tiers:
        return first and _longest_beside(first)
    stages = _most_in_stages(case)
    most = _most_packed(case, stages or case.workload.context_tokens)
    at_most = _at(case, most)
    # [stops growing] where nothing ever fills a card, tokens do not tell placements apart.
    found = find(at_most, BALANCE if most >= MAX_TOKENS else CONTEXT, max_steps=MAX_STEPS)
    ensure(found is not None, "the same search found something at as many tokens")
    if most < MAX_TOKENS:
        found = _with_claim(found, case, most, most if stages == most else None)
        reasons = _reasons(case, found, most)
        found = replace(found, given_up_for=reasons, tokens_in_stages=stages)
    return _posed_for(found, case)


def _at(case: Case, tokens: int) -> Case:
    return replace(case, workload=replace(case.workload, context_tokens=tokens))


def _posed_for(found: Found, case: Case) -> Found:
    return replace(found, pose=replace(found.pose, case=case))


def _most_in_stages(case: Case) -> int | None:
    """Tokens that contiguous stages hold, with any rungs of default pins given up."""
    poses = [pose for relaxed in relaxations(case) for pose in poses_of(case, relaxed)]
    return _largest_of(poses, case.workload.context_tokens)


def _largest_of(poses: Iterable[Pose], low: int) -> int | None:
    return largest(lambda n: any(chain.fits(pose.problem(n)) for pose in poses), low=low)


def _most_packed(case: Case, known: int) -> int:
    """Tokens that packings hold, with no default pin kept; at least what is known to fit."""
    if known >= MAX_TOKENS:
        return known
    pose = loosest(case)
    more = largest(lambda n: packing.fits(pose.problem(n), max_steps=MAX_STEPS), low=known + 1)
    return more or known


def _with_claim(found: Found, case: Case, most: int, in_stages: int | None) -> Found:
    """What is proven: that one token more fits nowhere, or in no contiguous stages."""
    beyond = packing.pack_within(loosest(case).problem(most + 1))
    if beyond.proven and beyond.assignment is None:
        pins = " with the user's pins" if case.user_pins else ""
        return replace(found, optimal_within=EVERYWHERE.format(pins=pins), is_most=not pins)
    exact = all(
        chain.is_exact(pose.problem(most))
        for relaxed in relaxations(case)
        for pose in poses_of(case, relaxed)
    )
    return replace(found, optimal_within=IN_STAGES if exact and in_stages else "")


def _reasons(case: Case, found: Found, most: int) -> dict[tuple[int, ...], str]:
    """Why each rung gave way: the tokens with it kept."""
    reasons = {}
    for rung in rungs(case):
        if not set(rung) <= found.pose.relaxed:
            continue
        kept = _most_with(case, found.pose.relaxed - set(rung), most)
        if kept is not None:
            reasons[rung] = (
                f"kept on {case.machine.main_device}, {kept:,} tokens fit instead of {most:,}"
            )
    return reasons


def _most_with(case: Case, relaxed: frozenset[int], most: int) -> int | None:
    """Tokens that fit with only these pins given up, below the most; None: not the workload's."""
    poses, asked = list(poses_of(case, relaxed)), case.workload.context_tokens
    stages = largest(lambda n: any(chain.fits(p.problem(n)) for p in poses), low=asked, high=most)
    packed = largest(
        lambda n: packing.fits(poses[-1].problem(n), max_steps=FEWER_STEPS),
        low=stages or asked,
        high=most,
    )
    return packed or stages


def _longest_beside(found: Found) -> Found:
    """The most tokens in contiguous stages with the same layers offloaded."""
    pose = found.pose
    most = _largest_of([pose], pose.case.workload.context_tokens)
    ensure(most is not None, "the offload was chosen so that the rest fits")
    at_most = replace(pose, case=_at(pose.case, most))
    objective: Objective = BALANCE if most >= MAX_TOKENS else CONTEXT
    assignment = objective.contiguous(at_most)
    ensure(assignment is not None, "as many tokens were found to fit")
    return found_contiguous(pose, assignment, CONTEXT)
