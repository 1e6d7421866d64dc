"""Infeasible is a result: what is missing, whether that is proven, and what would help."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings

from devplan.core.types import CacheGrowth, Infeasible, Plan
from devplan.core.units import GIB
from devplan.core.workload import Workload
from tests.planning.strategies import cases, cpu, layer, machine, plan, text_graph

GROWS = (CacheGrowth(bytes_per_token=1),)


def layers(*sizes, cache=()):
    return [layer(index, size, cache) for index, size in enumerate(sizes)]


def changes(answer: Infeasible) -> list[str]:
    return [remedy.change for remedy in answer.remedies]


def test_volume_names_what_is_missing_and_on_which_card():
    graph = text_graph(layers(*[10] * 4, cache=GROWS), embed=1, head=1)
    answer = plan(graph, machine(20, 20), Workload(context=8, batch=1))
    assert isinstance(answer, Infeasible) and answer.proven
    for fact in ("44 B", "the cache 32 B", "8 tokens x batch 1", "have 40 B", "36 B are missing"):
        assert fact in answer.reason
    assert set(answer.shortfalls) == {"cuda:0", "cuda:1"}
    assert all(missing > 0 for missing in answer.shortfalls.values())
    assert sum(load.load_bytes for load in answer.loads) == 76, "all of the model is in the table"
    assert {load.device for load in answer.loads} == set(answer.placement.values())
    assert answer.lower_bound > 1


def test_volume_suffices_but_layers_cannot_be_divided():
    answer = plan(
        text_graph(layers(7, 7, 7), embed=1, head=0), machine(12, 12), Workload(context=4096)
    )
    assert isinstance(answer, Infeasible) and answer.proven
    assert "every placement fills some GPU" in answer.reason
    assert answer.shortfalls == {"cuda:1": 2}


def test_pins_can_be_what_does_not_fit():
    graph = text_graph(layers(*[4] * 4), embed=1, head=1)
    answer = plan(graph, machine(10, 40), Workload(context=4096), pins={"model.layers": "0"})
    assert isinstance(answer, Infeasible) and answer.proven
    assert "with these pins" in answer.reason and "cuda:0 lacks" in answer.reason
    assert "without --pin model.layers=0" in changes(answer)


def test_context_and_batch_are_the_largest_that_fit():
    graph = text_graph(layers(*[4] * 4, cache=GROWS), embed=1, head=1)
    cards = machine(20, 20)
    answer = plan(graph, cards, Workload(context=5, batch=2))
    # At most 4 tokens on the two layers of the main card, batch times tokens.
    assert "--context 2 instead of 5" in changes(answer)
    assert isinstance(plan(graph, cards, Workload(context=2, batch=2)), Plan)
    assert isinstance(plan(graph, cards, Workload(context=3, batch=2)), Infeasible)
    answer = plan(graph, cards, Workload(context=2, batch=5))
    assert "--batch 2 instead of 5" in changes(answer)


def test_cards_offload_and_reserve():
    graph = text_graph(layers(*[2 * GIB] * 8), embed=GIB, head=GIB)
    answer = plan(graph, machine(8 * GIB, 8 * GIB, reserve=GIB), Workload(context=4096))
    assert "one more GPU of 8GiB" in changes(answer)
    assert "cuda:0 of 12GiB instead of 9.00 GiB" in changes(answer)
    assert "--offload cpu=6GiB" in changes(answer)


def test_a_smaller_reserve_is_the_largest_that_fits():
    graph = text_graph(layers(*[2 * GIB] * 4), embed=GIB, head=GIB)
    cards = machine(6 * GIB, 4 * GIB - 1, reserve=GIB)
    # The second card lacks one byte for two layers.
    answer = plan(graph, cards, Workload(context=4096))
    assert "--reserve 1023MiB instead of 1.00 GiB" in changes(answer)


def test_another_graph_is_a_remedy_when_it_fits():
    def with_layers(size):
        return text_graph(layers(*[size] * 4), embed=1, head=1)

    answer = plan(
        with_layers(10),
        machine(20, 20),
        Workload(context=4096),
        alternatives={
            "--quantize 8bit": lambda: with_layers(5),
            "--dtype float32": lambda: with_layers(20),
        },
    )
    assert "--quantize 8bit" in changes(answer)
    assert "--dtype float32" not in changes(answer)


def test_context_and_batch_remedies_work_and_are_the_largest():
    tried = Counter()

    @settings(max_examples=80, deadline=None)
    @given(case=cases())
    def holds(case):
        graph, cards, workload, _, pins, default_pins = case
        asked = {"pins": pins, "default_pins": default_pins}
        tokens, batch = workload.tokens * 4, workload.batch * 2
        workload = replace(workload, context=tokens, batch=batch)
        answer = plan(graph, cards, workload, **asked)
        assume(isinstance(answer, Infeasible))
        for change in changes(answer):
            option, number = change.split()[:2]
            if option == "--context":
                less = replace(workload, context=int(number))
                more = replace(workload, context=int(number) + 1)
            elif option == "--batch":
                less = replace(workload, batch=int(number))
                more = replace(workload, batch=int(number) + 1)
            else:
                continue
            tried[option] += 1
            assert isinstance(plan(graph, cards, less, **asked), Plan)
            larger = plan(graph, cards, more, **asked)
            # [packing] a remedy's search for one is short; a longer one may find what it did not.
            assert isinstance(larger, Infeasible) or not larger.contiguous

    holds()
    assert tried["--context"] >= 5 and tried["--batch"] >= 5


def test_a_search_that_was_given_up_proves_nothing():
    """Layers are multiples of 3, with which each card would have to be filled but for a byte."""
    chance = random.Random(2)
    sizes = [3 * chance.randint(1000, 3000) for _ in range(24)]
    card = sum(sizes) // 12 * 3 + 3
    answer = plan(
        text_graph(layers(*sizes), embed=0, head=0), machine(*[card] * 4), Workload(context=4096)
    )
    assert isinstance(answer, Infeasible) and not answer.proven
    assert answer.reason.startswith("no placement was found: at best cuda:")


@pytest.mark.parametrize("tiers", [(), (cpu(3),)])
def test_one_line_and_no_plan(tiers):
    answer = plan(text_graph(layers(30)), machine(10, tiers=tiers), Workload(context=4096))
    assert isinstance(answer, Infeasible)
    assert "\n" not in answer.reason
    assert answer.proven == (not tiers)
