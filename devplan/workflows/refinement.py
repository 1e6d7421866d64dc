"""The closed loop: plan, run the plan virtually, take what was found as constraints, plan again.

    plan -> map -> split run -> findings -> lessons -> plan -> ...

A *lesson* is one of four:

* a block has to be on a device (a finding whose remedy is a changed entry);
* two blocks have to be together (code of one works on a tensor of the other);
* a block needs more activations on its card than was counted;
* a block costs less on another device (a warning whose remedy is a changed entry).

The loop ends when the run finds nothing that stops the model, when nothing more can be learnt, or
after `MOST_ROUNDS`.  What was learnt is kept with the finding behind it.  A lesson of the fourth
kind is taken back where the plan with it does not fit, stops, or has as many warnings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from devplan.core import (
    BlockGraph,
    Infeasible,
    InputError,
    Plan,
    Verification,
)
from devplan.planning import PlanRequest, plan
from devplan.workflows.constraints import Learnt, learn, learn_from_warnings
from devplan.workflows.plan_runner import VerifiedPlan

MOST_ROUNDS = 8
"""Each takes a plan and a run, under a second for most models; what cannot be learnt in a few is
not to be learnt from runs."""

Runner = Callable[[Plan, BlockGraph], VerifiedPlan]
"""Runs a plan."""


def prove(unproven: VerifiedPlan, request: PlanRequest, run: Runner) -> VerifiedPlan:
    """Plan until a virtual run finds nothing that stops the model.

    Parameters
    ----------
    unproven
        The first plan.
    request
        Its pins are the user's: they win over every constraint that a run teaches.
    run
        Runs a plan.
    """
    learnt = Learnt(graph=unproven.graph, pins=dict(request.pins))
    verified = run(unproven.plan, learnt.graph)
    for _ in range(MOST_ROUNDS - 1):
        more = learn(learnt, verified.plan, verified.context, verified.errors)
        if more is None:
            break
        learnt = more
        result = _planned(request, learnt)
        if isinstance(result, Infeasible):
            return _infeasible(result, learnt)
        verified = run(result, learnt.graph)
    learnt, verified = _with_fewer_warnings(learnt, verified, request, run)
    return replace(
        verified,
        result=_with_reasons(verified.plan, learnt),
        constraints=learnt.constraints,
    )


def _with_fewer_warnings(
    learnt: Learnt, verified: VerifiedPlan, request: PlanRequest, run: Runner
) -> tuple[Learnt, VerifiedPlan]:
    """Blocks that ``devplan check --strict`` would move are moved, where fewer warnings remain."""
    for _ in range(MOST_ROUNDS):
        more = None if verified.errors else learn_from_warnings(learnt, verified.check.warnings)
        if more is None:
            break
        planned = _planned(request, more)
        if isinstance(planned, Infeasible):
            break
        tried = run(planned, more.graph)
        if tried.errors or len(tried.check.warnings) >= len(verified.check.warnings):
            break
        learnt, verified = more, tried
    return learnt, verified


NOTHING_TO_RUN = Verification(status="unverified", detail="nothing fits, so nothing was run")


def _planned(request: PlanRequest, learnt: Learnt) -> Plan | Infeasible:
    try:
        return plan(learnt.graph, replace(request, pins=learnt.pins))
    except InputError as error:  # a lesson that contradicts the user's pins
        return Infeasible(reason=str(error), lower_bound=0.0, proven=False)


def _infeasible(result: Infeasible, learnt: Learnt) -> VerifiedPlan:
    """Nothing fits that keeps to what was learnt."""
    kept = "; ".join(f"{each.change} ({each.finding})" for each in learnt.constraints)
    reason = f"{result.reason}; the model's code needs: {kept}"
    return VerifiedPlan(
        result=replace(result, reason=reason),
        graph=learnt.graph,
        verification=NOTHING_TO_RUN,
        constraints=learnt.constraints,
    )


def _with_reasons(result: Plan, learnt: Learnt) -> Plan:
    """Pins that a run asked for carry its finding, not the word ``user``."""
    why = learnt.reasons
    return replace(
        result,
        pins=tuple(
            replace(pin, reason=why[pin.block]) if pin.block in why else pin for pin in result.pins
        ),
    )
