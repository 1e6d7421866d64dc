"""Lower bounds: never above the optimum, and tight where the argument says so."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings

from devplan.planning.bounds import exceeds, lower_bound
from devplan.planning.problem import share_of
from devplan.planning.solvers import exhaustive
from tests.planning.strategies import problems


def check_bound(problem) -> None:
    loads = np.array(problem.loads_bytes, dtype=np.int64)
    budgets = [slot.budget_bytes for slot in problem.slots]
    bases = [slot.base_bytes for slot in problem.slots]
    optimum = share_of(problem, exhaustive.solve(problem))
    assert lower_bound(loads, budgets, bases) <= optimum
    assert lower_bound(loads, budgets) <= optimum
    assert not exceeds(loads, budgets) or optimum > 1
    assert exceeds(loads, budgets) == (lower_bound(loads, budgets) > 1)


@settings(max_examples=150, deadline=None)
@given(problem=problems(pins=False))
def test_no_bound_is_above_the_optimum(problem):
    check_bound(problem)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(problem=problems(pins=False))
def test_no_bound_is_above_the_optimum_in_ten_thousand_problems(problem):
    check_bound(problem)


def bound(loads, budgets, bases=None):
    return lower_bound(np.array(loads, dtype=np.int64), budgets, bases)


def test_volume():
    assert bound([1] * 10, [10, 10]) == Fraction(1, 2)


def test_the_largest_block_lies_on_some_card():
    assert bound([9, 1], [10, 6]) == Fraction(9, 10)
    assert bound([9, 1], [10, 6], [3, 0]) == Fraction(12, 10)


def test_counting_layers_is_tight_where_they_do_not_divide():
    assert bound([4] * 9, [20, 20]) == Fraction(20, 20)


def test_counting_sees_larger_blocks_as_several_places():
    # Two blocks of two layers' size and one layer more than 4 + 4 places hold.
    assert bound([10, 11, 5, 5, 5, 5, 5], [50, 50]) == Fraction(25, 50)


def test_what_is_on_the_cards_already_takes_places():
    # (4 + 2 layers, 2 layers) and (4 + 1, 3) both have a largest load of 10 or 9.
    assert bound([3] * 4, [10, 10], [4, 0]) == Fraction(9, 10)
