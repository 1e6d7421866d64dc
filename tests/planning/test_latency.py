"""The objective ``latency`` on whole plans: exact, bounded, within pins and budgets."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devplan.core.costs import StepWork, Work
from devplan.core.errors import InputError
from devplan.core.types import BlockGraph, Plan, SharedInput
from devplan.core.workload import Workload
from devplan.machine.gpu_facts import speeds_of
from devplan.machine.links import with_links
from devplan.planning.speed import fastest_bound, predicted_timing, predicted_traffic
from tests.planning.strategies import SIZES, layer, machine, plan, text_graph

NAMES = st.sampled_from(["rtx-4090", "rtx-4090", "h100", "l4"])
LINKS = st.sampled_from([None, "pcie3x8-host", "nvlink4", "5GB/s"])
WORKLOAD = Workload(context=100)
GIGA = 10**9


def worked(block, flops: int, read_bytes: int):
    """A block with work in the sizes of real layers."""
    prefill = Work(flops=100 * flops * GIGA, read_bytes=read_bytes * GIGA)
    decode = Work(flops=flops * GIGA, read_bytes=read_bytes * GIGA)
    return replace(block, work=StepWork(prefill=prefill, decode=decode))


@st.composite
def timed_cases(draw):
    """(graph, machine, pins): layers of any work, cards of any speed, links of any kind."""
    sizes = draw(st.lists(SIZES, min_size=1, max_size=4))
    shared = (SharedInput(maker="model.rotary_emb", bytes_per_token=4),)
    layers = [
        replace(
            worked(layer(index, size), draw(st.integers(0, 9)), draw(st.integers(0, 9))),
            input_bytes_per_token=draw(st.sampled_from([2, 2, 50_000])),
            shared_inputs=draw(st.sampled_from([(), shared])),
        )
        for index, size in enumerate(sizes)
    ]
    graph = text_graph(layers, embed=draw(st.integers(0, 5)), head=draw(st.integers(0, 5)))
    blocks = (b if b.work else worked(b, 1, 1) for b in graph.blocks)
    budgets = draw(st.lists(st.sampled_from([10, 20, 33, 60]), min_size=1, max_size=3))
    main = draw(st.integers(0, len(budgets) - 1))
    bare = machine(*budgets, main=main)
    named = replace(bare, cards=tuple(replace(card, name=draw(NAMES)) for card in bare.cards))
    layer_pin = st.dictionaries(
        st.just("model.layers.0"), st.integers(0, len(budgets) - 1).map(str), max_size=1
    )
    return replace(graph, blocks=tuple(blocks)), with_links(named, draw(LINKS)), draw(layer_pin)


def request_s(graph: BlockGraph, on, placement) -> float:
    traffic = predicted_traffic(graph, on, WORKLOAD, placement)
    about = (graph, on, WORKLOAD, speeds_of(on), placement, traffic)
    return predicted_timing(*about, lower_bound_s=0.0).request_s


def every_contiguous(graph: BlockGraph, on, found: Plan, pins):
    """Request of every placement of the layers in stages that fits, all else as in the plan."""
    layers = [block for block in graph.blocks if block.stage_bound]
    # [relaxed] what gave up its pin is part of the stages: they are contiguous with it.
    given_up = {name for item in found.relaxed for name in item.blocks}
    chain = [b.name for b in graph.blocks if b.stage_bound or b.name in given_up]
    for devices in itertools.product(on.devices, repeat=len(layers)):
        placement = dict(found.placement) | dict(
            zip((block.name for block in layers), devices, strict=True)
        )
        runs = [device for device, _ in itertools.groupby(placement[name] for name in chain)]
        kept = all(placement[name] == f"cuda:{device}" for name, device in pins.items())
        if len(runs) == len(set(runs)) and kept and fits(graph, on, placement):
            yield request_s(graph, on, placement)


def fits(graph: BlockGraph, on, placement) -> bool:
    return all(
        sum(b.static_bytes for b in graph.blocks if placement[b.name] == card.device)
        <= card.budget_bytes
        for card in on.cards
    )


def check_case(graph, on, pins) -> None:
    found = plan(graph, on, WORKLOAD, objective="latency", pins=pins)
    if not isinstance(found, Plan):
        return
    timing = found.timing
    taken = request_s(graph, on, found.placement)
    assert math.isclose(timing.request_s, taken)
    assert timing.lower_bound_s <= timing.request_s * (1 + 1e-9)
    every = list(every_contiguous(graph, on, found, pins))
    if not every:  # only a packing fits
        assert not found.contiguous
        return
    assert min(every) >= timing.lower_bound_s * (1 - 1e-9)
    if found.certificate.optimal_within:
        assert math.isclose(taken, min(every), rel_tol=1e-6)
    # Never slower than what the most even placement with the same pins takes.
    even = plan(graph, on, WORKLOAD, objective="balance", pins=pins)
    if found.contiguous and even.contiguous and not (found.relaxed or even.relaxed):
        assert taken <= request_s(graph, on, even.placement) * (1 + 1e-6)


@settings(max_examples=150, deadline=None)
@given(timed_cases())
def test_equals_every_placement(case):
    check_case(*case)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(timed_cases())
def test_equals_every_placement_at_length(case):
    check_case(*case)


@settings(max_examples=150, deadline=None)
@given(timed_cases())
def test_never_slower_than_sequential(case):
    """Cards filled one after another, from the main one on, are contiguous stages too."""
    graph, on, _ = case
    found = plan(graph, on, WORKLOAD, objective="latency")
    if not isinstance(found, Plan) or found.relaxed or not found.contiguous:
        return
    order = sorted(on.cards, key=lambda card: card.device != on.main_device)
    room = {card.device: card.budget_bytes for card in on.cards}
    aside = [block for block in graph.blocks if not block.stage_bound]
    room[on.main_device] -= sum(block.static_bytes for block in aside)
    placement, current = {block.name: on.main_device for block in aside}, 0
    for block in (block for block in graph.blocks if block.stage_bound):
        while current < len(order) and block.static_bytes > room[order[current].device]:
            current += 1
        if current == len(order):
            return  # it does not fit filled like that
        device = order[current].device
        room[device] -= block.static_bytes
        placement[block.name] = device
    ordered = {name: placement[name] for name in graph.names}
    assert found.timing.request_s <= request_s(graph, on, ordered) * (1 + 1e-9)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.lists(st.integers(1, 9), min_size=3, max_size=3)),
        min_size=1,
        max_size=5,
    ),
    st.lists(st.integers(1, 25), min_size=3, max_size=3),
)
def test_no_placement_is_below_the_bound(units, rooms):
    """Whatever goes where, contiguous or not."""
    loads, seconds = np.array([u[0] for u in units]), np.array([u[1] for u in units], dtype=float)
    fitting = []
    for cards in itertools.product(range(3), repeat=len(units)):
        held = np.bincount(cards, weights=loads, minlength=3)
        if (held <= rooms).all():
            fitting.append(seconds[range(len(units)), cards].sum())
    for attained_s in sorted(set(fitting)):
        bound = fastest_bound(seconds, loads, rooms, attained_s)
        assert bound <= min(fitting) * (1 + 1e-9)
        assert bound >= seconds.min(axis=1).sum() * (1 - 1e-9)


def test_fast_cards_take_the_layers():
    layers = [worked(layer(index, 4), 1, 1) for index in range(6)]
    bare = machine(60, 60)
    on = replace(
        bare,
        cards=tuple(
            replace(card, name=name) for card, name in zip(bare.cards, ("l4", "h100"), strict=True)
        ),
    )
    found = plan(text_graph(layers), with_links(on), WORKLOAD, objective="latency")
    assert {found.placement[f"model.layers.{index}"] for index in range(6)} == {"cuda:1"}
    assert found.certificate.solver == "fastest" and found.certificate.optimal_within


def test_equal_cards_and_layers_are_left_even_where_that_costs_nothing():
    layers = [worked(layer(index, 4), 1, 1) for index in range(6)]
    bare = machine(20, 20)
    on = replace(bare, cards=tuple(replace(card, name="h100") for card in bare.cards))
    found = plan(text_graph(layers, embed=0, head=0), on, WORKLOAD, objective="latency")
    counts = [list(found.placement.values()).count(device) for device in on.devices]
    assert sorted(counts)[0] == 3


def test_cards_without_a_name_are_refused():
    graph = text_graph([layer(0, 4)])
    with pytest.raises(InputError) as caught:
        plan(graph, machine(20, 20), WORKLOAD, objective="latency")
    message = str(caught.value)
    assert "cuda:0 (20), cuda:1 (20)" in message and "rtx-4090" in message
    assert "\n" not in message


def test_near_cards_follow_one_another():
    """Pairs 0-2 and 1-3 are joined by NVLink: stages go along these."""
    layers = [layer(index, 9) for index in range(4)]
    on = with_links(machine(20, 20, 20, 20), "0-2:nvlink3,1-3:nvlink3,pcie3x4-host")
    found = plan(text_graph(layers, embed=1, head=1), on, Workload(context=10))
    devices = [found.placement[f"model.layers.{index}"] for index in range(4)]
    assert devices[:2] == ["cuda:0", "cuda:2"] and set(devices[2:]) == {"cuda:1", "cuda:3"}
