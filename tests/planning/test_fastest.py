"""The solver for time against every contiguous assignment of small problems."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devplan.planning.problem import (
    Problem,
    Slot,
    is_contiguous,
    respects_pins,
    share_of,
    transfer_cost,
)
from devplan.planning.solvers import chain, exhaustive, fastest
from devplan.planning.solvers.fastest import Costs, seconds_of
from tests.planning.strategies import num_new_slots, problems

SPEEDS = st.sampled_from([1, 1, 2, 5])
DISTANCES = st.sampled_from([1, 1, 2, 7])


@st.composite
def timed(draw):
    """A problem whose slots have speeds and links, some of them alike."""
    problem = draw(problems(max_items=5))
    num_items, num_slots = len(problem.loads_bytes), len(problem.slots)
    speeds = np.array([draw(SPEEDS) for _ in range(num_slots)])
    works = np.array([draw(st.integers(0, 9)) for _ in range(num_items)])
    sizes = np.array([draw(st.integers(0, 3)) for _ in range(num_items + 1)])
    table = _symmetric(draw, num_slots)
    item_s = works[:, None] / speeds[None, :]
    return problem, Costs(item_s=item_s, cross_s=(1 + sizes[:, None, None]) * table)


def _symmetric(draw, size: int) -> np.ndarray:
    table = np.zeros((size, size))
    for a in range(size):
        for b in range(a):
            table[a, b] = table[b, a] = draw(DISTANCES)
    return table


def allowed(problem: Problem, share=Fraction(1)):
    """Every contiguous assignment within the share."""
    every = filter(is_contiguous, exhaustive.assignments(problem))
    return [assignment for assignment in every if share_of(problem, assignment) <= share]


def check_fastest(problem: Problem, costs: Costs) -> None:
    found = fastest.fastest(problem, costs)
    fitting = allowed(problem)
    assert (found is None) == (not fitting)
    if found is None:
        return
    assert found in fitting and respects_pins(problem, found)
    best = min(seconds_of(problem, costs, each) for each in fitting)
    assert math.isclose(seconds_of(problem, costs, found), best, abs_tol=1e-9)


@settings(max_examples=300, deadline=None)
@given(timed())
def test_equals_the_oracle(given_case):
    check_fastest(*given_case)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(timed())
def test_equals_the_oracle_at_length(given_case):
    check_fastest(*given_case)


@settings(max_examples=100, deadline=None)
@given(timed(), st.integers(0, 3))
def test_keeps_to_a_number_of_new_slots(given_case, limit):
    problem, costs = given_case
    found = fastest.fastest(problem, costs, max_new_slots=limit)
    fitting = [each for each in allowed(problem) if num_new_slots(problem, each) <= limit]
    assert (found is None) == (not fitting)
    if found is not None:
        best = min(seconds_of(problem, costs, each) for each in fitting)
        assert math.isclose(seconds_of(problem, costs, found), best, abs_tol=1e-9)


@settings(max_examples=100, deadline=None)
@given(timed())
def test_orders_that_are_tried_give_what_fits(given_case):
    """Beyond the limit of exact states: valid, and never faster than the optimum."""
    problem, costs = given_case
    best = fastest.fastest(problem, costs)
    before, fastest.MAX_STEPS = fastest.MAX_STEPS, 0
    try:
        assert not fastest.is_exact(problem, costs)
        found = fastest.fastest(problem, costs)
    finally:
        fastest.MAX_STEPS = before
    if found is not None and problem.loads_bytes:
        assert found in allowed(problem)
        slowest = seconds_of(problem, costs, found)
        assert slowest >= seconds_of(problem, costs, best) - 1e-9


@settings(max_examples=200, deadline=None)
@given(timed())
def test_shortest_transfers_among_equally_balanced(given_case):
    problem, costs = given_case
    problem = replace(problem, distances=tuple(map(tuple, costs.cross_s[0].tolist())))
    found = chain.solve(problem)
    if found is None:
        return
    share = share_of(problem, found)
    best = min(transfer_cost(problem, each) for each in allowed(problem, share))
    assert math.isclose(transfer_cost(problem, found), best, abs_tol=1e-9)


def slots(num: int, budget: int) -> tuple[Slot, ...]:
    return tuple(Slot(device=f"cuda:{index}", budget_bytes=budget) for index in range(num))


def test_alike_slots_are_counted_and_pairs_told_apart():
    near, far = 1.0, 5.0
    table = np.full((4, 4), far)
    for a, b in ((0, 1), (1, 0), (2, 3), (3, 2)):
        table[a, b] = near
    np.fill_diagonal(table, 0.0)
    problem = Problem(loads_bytes=(1,) * 8, slots=slots(4, 2))
    costs = Costs(item_s=np.ones((8, 4)), cross_s=np.broadcast_to(table, (9, 4, 4)))
    assert fastest.alike(problem, costs) == [[0, 1], [2, 3]]
    found = fastest.fastest(problem, costs)
    assert seconds_of(problem, costs, found) == 8 + near + far + near


def test_a_slow_slot_is_left_empty():
    problem = Problem(loads_bytes=(1,) * 6, slots=slots(3, 4))
    item_s = np.tile([1.0, 9.0, 2.0], (6, 1))
    costs = Costs(item_s=item_s, cross_s=np.zeros((7, 3, 3)))
    assert sorted(fastest.fastest(problem, costs)) == [0, 0, 0, 0, 2, 2]
