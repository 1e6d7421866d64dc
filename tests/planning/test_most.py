"""The most that fits: each answer fits, and one more does not."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from devplan.core.types import ActivationGrowth, CacheGrowth, Infeasible, Machine, Plan
from devplan.core.workload import Workload
from devplan.planning.instance import PlanRequest
from devplan.planning.planner import (
    LARGEST_BATCH,
    fewest_cards,
    instance_of,
    plan_most_sequences,
    plan_most_tokens,
)
from devplan.planning.search import fits
from tests.planning.strategies import block, layer, machine, plan, text_graph

GROWING = (CacheGrowth(bytes_per_token=1),)


@st.composite
def graphs(draw):
    """A few layers, caches that grow, activations that differ."""
    sizes = draw(st.lists(st.integers(1, 8), min_size=1, max_size=5))
    layers = [layer(index, size, GROWING) for index, size in enumerate(sizes)]
    if draw(st.booleans()):
        needs = draw(st.lists(st.integers(0, 3), min_size=len(layers), max_size=len(layers)))
        layers = [
            replace(each, activation=ActivationGrowth(samples=((1, need), (8, need * 4))))
            for each, need in zip(layers, needs, strict=True)
        ]
    return text_graph(layers, embed=draw(st.integers(1, 5)), head=draw(st.integers(1, 5)))


def most_tokens(graph, on: Machine, workload: Workload, **asked) -> Plan | Infeasible:
    return plan_most_tokens(graph, PlanRequest(machine=on, workload=workload, **asked))


def most_sequences(graph, on: Machine, workload: Workload) -> Plan | Infeasible:
    return plan_most_sequences(graph, PlanRequest(machine=on, workload=workload))


MACHINES = st.lists(st.integers(8, 60), min_size=1, max_size=3).map(lambda sizes: machine(*sizes))


def test_activations_that_pass_the_range_of_int64_end_the_context():
    """A mask of tokens x tokens of a small model on a large card: 2**60 bytes at 2**30 tokens."""
    steep = ActivationGrowth(samples=((1, 1), (2**10, 2**20), (2**11, 2**22)))
    layers = [replace(layer(i, 1, GROWING), activation=steep) for i in range(2)]
    found = most_tokens(text_graph(layers), machine(2**40, 2**40), Workload(context=1))
    assert isinstance(found, Plan)
    assert 2**18 < found.workload.tokens < 2**22


@settings(deadline=None)
@given(graph=graphs(), cards=MACHINES, limit=st.none() | st.integers(1, 60), pins=st.booleans())
def test_the_most_tokens_fit_and_end_at_memory_or_at_the_model(graph, cards, limit, pins):
    asked = Workload(context=1)
    found = most_tokens(graph, cards, asked, limit_tokens=limit, default_pins=pins)
    at_asked = plan(graph, cards, asked, objective="context", default_pins=pins)
    assert isinstance(found, Infeasible) == isinstance(at_asked, Infeasible)
    if isinstance(found, Infeasible):
        return
    tokens = found.workload.tokens
    assert all(load.headroom_bytes >= 0 for load in found.loads)
    assert found.certificate.objective == "context"
    assert found.certificate.most_tokens >= tokens >= 1
    memory = at_asked.certificate.most_tokens
    said = any("the model's own limit" in note for note in found.notes)
    assert said == (limit is not None and memory >= limit)
    assert tokens == limit if said else tokens >= memory
    # No contiguous stages with the same pins hold more: that is what the objective is exact in.
    # The class cannot be asked here, so a bound over all placements speaks.
    assert tokens <= (found.certificate.most_tokens_bound or tokens)


def test_a_cache_that_does_not_grow_reaches_the_limit():
    graph = text_graph([layer(0, 4), layer(1, 4)])
    asked = Workload(context=1)
    assert most_tokens(graph, machine(40), asked).workload == asked
    limited = most_tokens(graph, machine(40), asked, limit_tokens=32)
    assert limited.workload.tokens == 32
    (note,) = (note for note in limited.notes if "own limit" in note)
    assert "32 tokens" in note
    assert "any number" in note


@settings(deadline=None)
@given(graph=graphs(), cards=MACHINES)
def test_the_largest_batch_fits_and_one_more_sequence_does_not(graph, cards):
    asked = Workload(context=2)
    found = most_sequences(graph, cards, asked)
    if isinstance(found, Infeasible):
        assert isinstance(plan(graph, cards, asked), Infeasible)
        return
    batch = found.workload.batch
    assert all(load.headroom_bytes >= 0 for load in found.loads)
    more = PlanRequest(machine=cards, workload=replace(asked, batch=batch + 1))
    assert batch < LARGEST_BATCH
    assert not fits(instance_of(graph, more))


def test_where_nothing_grows_any_batch_fits():
    found = most_sequences(text_graph([layer(0, 4)]), machine(40), Workload(context=4096))
    assert found.workload.batch == LARGEST_BATCH


@settings(deadline=None)
@given(graph=graphs(), size=st.integers(8, 30))
def test_the_fewest_cards_suffice_and_one_less_does_not(graph, size):
    asked = Workload(context=2)

    def of(count: int) -> Machine:
        return machine(*[size] * count)

    count = fewest_cards(graph, asked, of, most=6)
    if count is None:
        assert isinstance(plan(graph, of(6), asked), Infeasible)
        return
    assert isinstance(plan(graph, of(count), asked), Plan)
    assert count == 1 or isinstance(plan(graph, of(count - 1), asked), Infeasible)


def test_a_plan_says_what_it_is_for():
    asked = Workload(batch=2, context=3)
    assert plan(text_graph([block("model.layers.0", 1)]), machine(40), asked).workload == asked
