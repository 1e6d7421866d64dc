"""The loop of plans and runs, on runs that say what the test tells them to."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from devplan.core.errors import InputError
from devplan.core.findings import Finding, Fix, Severity
from devplan.core.types import Constraint, Infeasible
from devplan.core.workload import Workload
from devplan.planning.instance import PlanRequest
from devplan.workflows.plan_runner import VerifiedPlan, verification_of
from devplan.workflows.refinement import MOST_ROUNDS, NOTHING_TO_RUN, prove
from tests.planning.strategies import layer, machine, plan, text_graph

GRAPH = text_graph([layer(index, 20) for index in range(4)])
PINS = {"lm_head": "cuda:0"}
REQUEST = PlanRequest(machine=machine(90, 60), workload=Workload(context=4096), pins=PINS)
PLAN = plan(GRAPH, machine(90, 60), Workload(context=4096), pins=PINS)
NOTHING_FITS = Infeasible(reason="too little", lower_bound=2.0, proven=True)
ERROR = Finding(code="DP301", severity=Severity.ERROR, message="apart")
LESSON = Constraint(change="a on b", finding="why")


def warned(module: str) -> Finding:
    return Finding(
        code="DP305",
        severity=Severity.WARNING,
        message="copies",
        module=module,
        fix=Fix(changed_entries={module: "cuda:1"}),
    )


class World:
    """Plans and runs in the order in which they are asked for."""

    def __init__(self, *runs, plans=(), lessons: int = 0) -> None:
        self.runs, self.plans, self.lessons = list(runs), list(plans), lessons
        self.planned: list[dict[str, str]] = []
        self.examined: list[object] = []

    def plan(self, graph, request):
        self.planned.append(dict(request.pins))
        found = self.plans.pop(0) if self.plans else PLAN
        if isinstance(found, Exception):
            raise found
        return found

    def run(self, result, graph):
        errors, warnings = self.runs.pop(0) if self.runs else ((), ())
        ran = VerifiedPlan(
            result=result,
            graph=graph,
            context=SimpleNamespace(not_run="a test", runs=()),
            check=SimpleNamespace(warnings=warnings),
            errors=errors,
        )
        self.examined.append(ran)
        return replace(ran, verification=verification_of(ran))

    def learn(self, learnt, result, subject, errors):
        if not self.lessons:
            return None
        self.lessons -= 1
        return replace(learnt, constraints=(*learnt.constraints, LESSON))

    def prove(self, monkeypatch) -> VerifiedPlan:
        monkeypatch.setattr("devplan.workflows.refinement.learn", self.learn)
        monkeypatch.setattr("devplan.workflows.refinement.plan", self.plan)
        unproven = VerifiedPlan(result=PLAN, graph=GRAPH, verification=NOTHING_TO_RUN)
        return prove(unproven, REQUEST, self.run)


@pytest.mark.parametrize("lessons", [0, 1, MOST_ROUNDS - 1, MOST_ROUNDS, 100])
def test_plans_and_runs_take_turns_until_nothing_is_learnt_or_for_eight_rounds(
    monkeypatch, lessons
):
    world = World(*[((ERROR,), ())] * 100, lessons=lessons)
    proof = world.prove(monkeypatch)
    learnt = min(lessons, 7)
    assert len(world.planned) == learnt and len(world.examined) == learnt + 1
    assert proof.constraints == (LESSON,) * learnt
    assert proof.errors == (ERROR,) and proof.context is world.examined[-1].context
    assert proof.check is world.examined[-1].check
    assert proof.verification.detail == "not run: a test"


def test_nothing_that_keeps_to_what_was_learnt_fits(monkeypatch):
    world = World(((ERROR,), ()), plans=[NOTHING_FITS], lessons=3)
    proof = world.prove(monkeypatch)
    assert proof.result.reason == "too little; the model's code needs: a on b (why)"
    assert proof.result.proven and proof.constraints == (LESSON,)
    assert proof.verification is NOTHING_TO_RUN and proof.check is None and not proof.errors
    refused = World(((ERROR,), ()), plans=[InputError("pinned apart")], lessons=3)
    proof = refused.prove(monkeypatch)
    assert proof.result.reason.startswith("pinned apart; the model's code needs: ")
    assert not proof.result.proven
    # Nothing was counted, so nothing is said of how much is missing.
    assert proof.result.lower_bound == 0 and proof.result.shortfalls == {}


ONE, TWO = (warned("model.norm"),), (warned("model.norm"), warned("model.rotary_emb"))
MOVED = {"model.norm": "cuda:1"}
BOTH = {**MOVED, "model.rotary_emb": "cuda:1"}


@pytest.mark.parametrize(
    ("runs", "plans", "planned", "kept"),
    [
        # fewer warnings, as many, more
        ([((), ONE), ((), ())], [], [MOVED], 1),
        ([((), TWO), ((), ONE)], [], [BOTH], 1),
        ([((), ONE), ((), (warned("lm_head"),))], [], [MOVED], 0),
        ([((), ONE), ((), TWO)], [], [MOVED], 0),
        # step by step
        ([((), TWO[1:] * 2), ((), ONE), ((), ())], [], [{"model.rotary_emb": "cuda:1"}, BOTH], 2),
        # a plan that stops, does not fit, or contradicts pins
        ([((), TWO), ((ERROR,), ())], [], [BOTH], 0),
        ([((), TWO)], [NOTHING_FITS], [BOTH], 0),
        ([((), TWO)], [InputError("pinned apart")], [BOTH], 0),
        # a plan that stops anyway, and a block that the user pinned
        ([((ERROR,), ONE)], [], [], 0),
        ([((), (warned("lm_head"),))], [], [], 0),
    ],
)
def test_what_a_warning_moves_is_kept_where_it_leaves_fewer_of_them(
    monkeypatch, runs, plans, planned, kept
):
    world = World(*runs, plans=plans)
    proof = world.prove(monkeypatch)
    assert world.planned == [{**PINS, **moved} for moved in planned]
    assert proof.context is world.examined[kept].context
    assert proof.result.placement == PLAN.placement
    moves = {each.change for each in proof.constraints}
    expected = planned[kept - 1] if kept else {}
    assert moves == {f"{block} on {device}" for block, device in expected.items()}


def test_warnings_are_followed_for_eight_moves_at_most(monkeypatch):
    blocks = [b.name for b in text_graph([layer(i, 1) for i in range(20)]).blocks][2:-1]
    graph = text_graph([layer(i, 1) for i in range(20)])
    runs = [((), tuple(map(warned, [blocks[i]] * (20 - i)))) for i in range(20)]
    world = World(*runs)
    monkeypatch.setattr("devplan.workflows.refinement.learn", world.learn)
    monkeypatch.setattr("devplan.workflows.refinement.plan", world.plan)
    unproven = VerifiedPlan(result=PLAN, graph=graph, verification=NOTHING_TO_RUN)
    prove(unproven, REQUEST, world.run)
    assert len(world.planned) == 8 and len(world.planned[-1]) == len(PINS) + 8


def test_what_a_run_pinned_carries_its_finding_and_the_users_word_stays(monkeypatch):
    world = World(((), ONE), ((), ()))
    world.plans = [plan(GRAPH, machine(90, 60), Workload(context=4096), pins={**PINS, **MOVED})]
    reasons = {pin.block: pin.reason for pin in world.prove(monkeypatch).result.pins}
    assert reasons["model.norm"] == "DP305, copies"
    assert reasons["lm_head"] == {pin.block: pin.reason for pin in PLAN.pins}["lm_head"]
