"""Solvers against the exhaustive oracle, and the chain solver on cases with known answers."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devplan.planning.problem import (
    Problem,
    Slot,
    is_contiguous,
    most_held,
    num_transfers,
    respects_pins,
    share_of,
    share_to_hold,
)
from devplan.planning.solvers import SOLVERS, chain, exhaustive, packing, sequential
from devplan.planning.solvers.reach import Reach
from tests.planning.strategies import best_in_stages, num_new_slots, problems

GIB = 2**30


def slots(*budgets, base=0):
    return tuple(
        Slot(
            device=f"cuda:{index}",
            budget_bytes=budget,
            base_bytes=0 if index else base,
            in_use=not index and base > 0,
        )
        for index, budget in enumerate(budgets)
    )


def check_chain(problem: Problem) -> None:
    """Equal to the oracle in share, transfers, and beginning on the main slot."""
    found, best = chain.solve(problem), best_in_stages(problem)
    assert (found is None) == (best is None)
    if found is None:
        return
    assert is_contiguous(found) and respects_pins(problem, found)
    assert share_of(problem, found) == share_of(problem, best)
    assert num_transfers(problem, found) == num_transfers(problem, best)
    assert (found[:1] == (problem.main,)) == (best[:1] == (problem.main,))
    assert chain.fits(problem, share=share_of(problem, best))
    assert chain.solve(problem) == found


@settings(max_examples=150, deadline=None)
@given(problem=problems(), share=st.fractions(0, 2, max_denominator=12))
def test_how_far_a_stage_goes_from_either_end(problem, share):
    """`Reach.stage_end` and `stage_start` against trying every run of items."""
    reach = Reach(problem)
    num_items = len(problem.loads_bytes)

    def holds(slot: int, start: int, end: int) -> bool:
        card, items = problem.slots[slot], range(start, end)
        active = max((problem.active[item] for item in items), default=0)
        room = card.budget_bytes - max(card.active_bytes, active)
        load = card.base_bytes + sum(problem.loads_bytes[item] for item in items)
        pinned = all(problem.pinned.get(item, slot) == slot for item in items)
        return start == end or (pinned and load <= most_held(share, room))

    for slot in range(len(problem.slots)):
        for position in range(num_items + 1):
            ends = [e for e in range(position, num_items + 1) if holds(slot, position, e)]
            assert reach.stage_end(slot, position, share) == max(ends)
            starts = [s for s in range(position + 1) if holds(slot, s, position)]
            # What takes nothing may stand before its stage as well as in it.
            first = reach.stage_start(slot, position, share)
            assert first == min(starts)


def test_a_card_without_room_to_speak_of_beside_a_large_one():
    """One byte is left beside the activations: at the share that it asks for, the large card's load
    passes the range of int64."""
    problem = Problem(
        loads_bytes=(GIB,) * 3,
        slots=slots(16 * GIB + 1, 2**50),
        activations_bytes=(16 * GIB,) * 3,
        pinned={0: 0},
        first=0,
    )
    check_chain(problem)
    assert share_of(problem, chain.solve(problem)) == GIB


def check_packing(problem: Problem) -> None:
    """Equal to the oracle in share, and said to be proven."""
    packed, best = packing.pack(problem), exhaustive.solve(problem)
    assert packed.proven
    assert respects_pins(problem, packed.assignment)
    assert share_of(problem, packed.assignment) == share_of(problem, best)
    within = packing.pack_within(problem)
    assert within.proven and (within.assignment is None) == (share_of(problem, best) > 1)


def check_fewest(problem: Problem) -> None:
    """The fewest new slots within budget, and the smallest share on that many."""
    fitting = [
        a for a in exhaustive.assignments(problem) if is_contiguous(a) and share_of(problem, a) <= 1
    ]
    num_new = chain.fewest_new_slots(problem)
    counts = [num_new_slots(problem, assignment) for assignment in fitting]
    assert num_new == min(counts, default=None)
    if num_new is None:
        return
    share = chain.smallest_share(problem, max_new_slots=num_new)
    pairs = zip(counts, fitting, strict=True)
    assert share == min(share_of(problem, a) for count, a in pairs if count == num_new)
    found = chain.arrange(problem, share, max_new_slots=num_new)
    assert num_new_slots(problem, found) == num_new
    assert share_of(problem, found) == share


def check_sequential(problem: Problem) -> None:
    """The baseline is valid, and no solver with a claim is worse where it fits."""
    naive = sequential.solve(problem)
    assert respects_pins(problem, naive)
    assert share_of(problem, packing.solve(problem)) <= share_of(problem, naive)
    if is_contiguous(naive):
        assert share_of(problem, chain.solve(problem)) <= share_of(problem, naive)


CHECKS = (check_chain, check_packing, check_fewest, check_sequential)


@pytest.mark.parametrize("check", CHECKS)
@settings(max_examples=100, deadline=None)
@given(problem=problems())
def test_solvers_agree_with_the_oracle(check, problem):
    check(problem)


def test_an_empty_card_whose_activations_fill_it_is_not_too_full():
    """Found by 10,000 cases: such a card made the search miss the last token."""
    assert share_to_hold(0, 0) == 0 and share_to_hold(1, 0) > 1 and share_to_hold(0, -1) > 1
    assert [most_held(Fraction(1), room) >= 0 for room in (1, 0, -1)] == [True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
@settings(max_examples=10_000, deadline=None)
@given(problem=problems(max_items=7, max_slots=5))
def test_solvers_agree_with_the_oracle_on_ten_thousand_problems(check, problem):
    if len(problem.slots) ** len(problem.loads_bytes) <= 1_100:
        check(problem)


@pytest.mark.parametrize("name", SOLVERS)
@settings(max_examples=20, deadline=None)
@given(problem=problems(max_items=4, max_slots=3, pins=False))
def test_every_solver_in_the_table_places_every_item_and_repeats_itself(name, problem):
    found = SOLVERS[name](problem)
    assert len(found) == len(problem.loads_bytes)
    assert set(found) <= set(range(len(problem.slots)))
    assert SOLVERS[name](problem) == found


def test_eighty_layers_and_two_matrices_on_eight_cards():
    # Llama-3.1-70B in bf16: 11 of the 82 places of a layer's size lie on some card.
    layer, matrix = 855_654_400 * 2, 128_256 * 8_192 * 2
    problem = Problem(loads_bytes=(layer,) * 80, slots=slots(*[24 * GIB] * 8, base=2 * matrix))
    assert chain.smallest_share(problem) == Fraction(11 * layer, 24 * GIB)
    assert float(chain.smallest_share(problem)) == pytest.approx(0.730, abs=5e-4)


def test_the_order_of_unequal_cards_is_part_of_the_problem():
    problem = Problem(loads_bytes=(5, 4, 6), slots=slots(10, 5))
    # In the order in which the cards are named the best is (5, 4 | 6): 6/5.
    found = chain.solve(problem)
    assert found == (1, 0, 0)
    assert share_of(problem, found) == 1


def test_the_main_slot_comes_first_where_that_costs_nothing():
    cards = slots(10, 10, 10)
    problem = Problem(loads_bytes=(5,) * 6, slots=cards, first=2, last=2, main=2)
    assert chain.solve(problem) == (2, 2, 0, 0, 1, 1)


def test_fewest_transfers_leave_a_card_idle_when_the_share_is_no_larger():
    problem = Problem(loads_bytes=(7, 2, 2, 2), slots=slots(10, 10, 10))
    found = chain.solve(problem)
    assert share_of(problem, found) == Fraction(7, 10)
    assert num_transfers(problem, found) == 1


def test_items_are_spread_evenly_over_the_order_that_was_chosen():
    problem = Problem(loads_bytes=(1,) * 32, slots=slots(*[10] * 5))
    found = chain.solve(problem)
    assert sorted(found.count(slot) for slot in range(5)) == [6, 6, 6, 7, 7]


def test_a_pinned_item_is_taken_into_the_stage_of_its_slot():
    problem = Problem(loads_bytes=(4,) * 6, slots=slots(12, 12, 12), pinned={0: 2})
    assert chain.solve(problem) == (2, 2, 0, 0, 1, 1)


def test_pins_may_leave_no_contiguous_stages():
    problem = Problem(loads_bytes=(1, 1, 1), slots=slots(9, 9), pinned={0: 0, 1: 1, 2: 0})
    assert chain.solve(problem) is None
    assert packing.solve(problem) == (0, 1, 0)


def test_twenty_different_cards_are_pooled_and_nothing_is_claimed():
    cards = slots(*(100 + 7 * index**2 for index in range(20)))
    problem = Problem(loads_bytes=(9,) * 200, slots=cards)
    assert not chain.is_exact(problem)
    found = chain.solve(problem)
    assert is_contiguous(found)
    volume = Fraction(9 * 200, sum(slot.budget_bytes for slot in cards))
    assert volume <= share_of(problem, found) <= 2 * volume


def test_sixteen_different_cards_are_exact():
    cards = slots(*(100 + 7 * index**2 for index in range(16)))
    problem = Problem(loads_bytes=(9,) * 120, slots=cards)
    assert chain.is_exact(problem)
    share = chain.smallest_share(problem)
    # Whole items only: one place less than 120 is offered just below the optimum.
    below = share - Fraction(1, 10**9)
    assert sum(below * slot.budget_bytes // 9 for slot in cards) < 120


def test_packing_fits_where_no_contiguous_stages_do():
    problem = Problem(loads_bytes=(6, 4, 6, 4), slots=slots(12, 8))
    assert not chain.fits(problem)
    packed = packing.pack(problem)
    assert packed.proven and share_of(problem, packed.assignment) == 1
    assert packed.assignment == (0, 1, 0, 1)


def test_a_packing_that_is_given_up_is_not_called_proven():
    problem = Problem(
        loads_bytes=tuple(range(101, 141)), slots=slots(*[sum(range(101, 141)) // 7] * 7)
    )
    packed = packing.pack(problem, max_steps=50)
    assert not packed.proven
    assert len(packed.assignment) == 40


def test_exchanges_bring_neighbours_together():
    # Two sizes alternate: by size alone every other item could lie elsewhere.
    problem = Problem(loads_bytes=(5, 3) * 6, slots=slots(24, 24), main=0)
    packed = packing.pack(problem)
    assert share_of(problem, packed.assignment) == 1
    assert num_transfers(problem, packed.assignment) == 1


def test_sequential_fills_the_cards_in_order():
    problem = Problem(loads_bytes=(4, 4, 4, 4), slots=slots(9, 4, 3))
    assert sequential.solve(problem) == (0, 0, 1, 2)
