"""Components over cards: by the peak of each phase, whole where that is possible."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devplan.core.types import (
    ActivationGrowth,
    Block,
    BlockGraph,
    Card,
    Infeasible,
    Machine,
    OffloadTier,
    Plan,
)
from devplan.core.workload import Workload
from devplan.planning.components import SOLVER
from devplan.planning.instance import PlanRequest
from devplan.planning.planner import plan

WORKLOAD = Workload(context=8)


def machine_of(*sizes: int, tiers: tuple[OffloadTier, ...] = ()) -> Machine:
    cards = tuple(
        Card(device=f"cuda:{i}", name=str(size), capacity_bytes=size, reserve_bytes=0)
        for i, size in enumerate(sizes)
    )
    return Machine(cards=cards, main_device="cuda:0", tiers=tiers)


def graph_of(*components: tuple[str, list[int], int], home: str | None = None) -> BlockGraph:
    """Name, bytes of the layers, and what each layer needs while it runs."""
    blocks = tuple(
        Block(
            name=f"{name}.layers.{index}",
            class_name="Layer",
            weight_bytes=size,
            buffer_bytes=0,
            onload_bytes=size,
            stack=f"{name}.layers",
            stage_bound=name != home,
            activation=ActivationGrowth(samples=((1, active), (8, active))),
        )
        for name, layers, active in components
        for index, size in enumerate(layers)
    )
    return BlockGraph(blocks=blocks, components=tuple(n for n, _, _ in components), home=home)


def planned(graph: BlockGraph, machine: Machine, **more) -> Plan | Infeasible:
    return plan(graph, PlanRequest(machine=machine, workload=WORKLOAD, **more))


def on(plan: Plan, component: str) -> set[str]:
    return {d for name, d in plan.placement.items() if name.startswith(f"{component}.")}


def test_a_card_keeps_room_for_the_peak_of_one_phase_and_not_for_the_sum():
    graph = graph_of(("text", [40], 50), ("transformer", [50], 60), ("vae", [5], 60), home="vae")
    # 95 of weights and a peak of 60: one card of 155 holds what the sum of peaks would not.
    found = planned(graph, machine_of(155))
    assert isinstance(found, Plan)
    assert found.loads[0].activation_bytes == 60
    assert isinstance(planned(graph, machine_of(154)), Infeasible)


def test_the_home_of_the_pipeline_is_on_the_main_device_and_the_reason_says_why():
    graph = graph_of(("text", [40], 1), ("transformer", [50], 1), ("vae", [5], 1), home="vae")
    found = planned(graph, machine_of(60, 60))
    assert on(found, "vae") == {"cuda:0"}
    assert {pin.reason for pin in found.pins} == {
        "the pipeline makes its latents on the device of this component"
    }
    assert found.certificate.solver == SOLVER


def test_a_component_that_no_card_holds_is_split_and_the_others_stay_whole():
    graph = graph_of(
        ("text", [20, 20], 1), ("transformer", [25] * 4, 1), ("vae", [5], 1), home="vae"
    )
    found = planned(graph, machine_of(80, 80))
    assert isinstance(found, Plan)
    assert len(on(found, "transformer")) == 2
    assert len(on(found, "text")) == len(on(found, "vae")) == 1
    assert any("split: transformer" in note for note in found.notes)


def test_nothing_is_left_out_and_the_answer_has_the_numbers():
    graph = graph_of(("text", [90], 1), ("transformer", [90], 1), ("vae", [90], 1), home="vae")
    found = planned(graph, machine_of(100, 100))
    assert isinstance(found, Infeasible)
    for name in ("text", "transformer", "vae"):
        assert f"{name} holds 90 B and needs 1 B beside it while it runs" in found.reason


def test_a_component_needs_what_the_block_needs_that_needs_most():
    graph = graph_of(("text", [40, 20, 30], 1), ("vae", [5], 1), home="vae")
    most = ActivationGrowth(samples=((1, 7), (8, 25)))
    blocks = [replace(b, activation=most) if b.weight_bytes == 20 else b for b in graph.blocks]
    graph = replace(graph, blocks=tuple(blocks))
    # 90 and 25 fill a card: a byte less, and it has to be split.
    assert on(planned(graph, machine_of(30, 115)), "text") == {"cuda:1"}
    assert not planned(graph, machine_of(30, 115)).notes
    assert any("split: text" in note for note in planned(graph, machine_of(70, 114)).notes)
    found = planned(graph, machine_of(30, 60))
    assert "text holds 90 B and needs 25 B beside it while it runs" in found.reason


def test_offload_is_the_last_resort_and_only_where_it_was_allowed():
    graph = graph_of(
        ("text", [40, 40], 1), ("transformer", [40, 40], 1), ("vae", [5], 1), home="vae"
    )
    tier = OffloadTier(device="cpu", capacity_bytes=None)
    assert isinstance(planned(graph, machine_of(120)), Infeasible)
    found = planned(graph, machine_of(140, tiers=(tier,)))
    assert isinstance(found, Plan)
    # 165 of weights less 140, and room for one layer of 40 that is copied in and for its peak.
    assert found.offload_bytes["cpu"] == 80
    assert not planned(graph, machine_of(170, tiers=(tier,))).offload_bytes


def test_pins_inside_a_component_hold_it_whole():
    graph = graph_of(("text", [40], 1), ("transformer", [30, 30], 1), ("vae", [5], 1), home="vae")
    found = planned(graph, machine_of(90, 90), pins={"transformer.layers.1": "cuda:0"})
    assert on(found, "transformer") == {"cuda:0"}
    torn = {"transformer.layers.0": "cuda:1", "transformer.layers.1": "cuda:0"}
    assert on(planned(graph, machine_of(90, 90), pins=torn), "transformer") == {"cuda:0", "cuda:1"}


sizes = st.integers(min_value=2, max_value=60)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(sizes, sizes), min_size=1, max_size=4),
    st.lists(st.integers(min_value=20, max_value=200), min_size=1, max_size=3),
)
def test_whole_components_are_placed_as_well_as_any_placement_of_them(components, cards):
    names = [f"part{i}" for i in range(len(components))]
    graph = graph_of(*((n, [load], act) for n, (load, act) in zip(names, components, strict=True)))
    found = planned(graph, machine_of(*cards))
    best = min(
        max(
            _share([components[i] for i, c in enumerate(placed) if c == card], size)
            for card, size in enumerate(cards)
        )
        for placed in itertools.product(range(len(cards)), repeat=len(components))
    )
    if best <= 1:
        assert isinstance(found, Plan)
        assert found.certificate.bottleneck == pytest.approx(best)
    else:  # one block a component: there is nothing to split
        assert isinstance(found, Infeasible)


def _share(inside: list[tuple[int, int]], size: int) -> float:
    room = size - max((act for _, act in inside), default=0)
    load = sum(load for load, _ in inside)
    return load / room if room > 0 else (float("inf") if inside else 0.0)


def test_tiles_are_run_once_however_many_ways_to_divide_fail(studied, monkeypatch):
    """Each way asked for the remedy `--tiling`: the autoencoder was run for each of them."""
    from devplan.workflows import profiled_model as studying
    from devplan.workflows import suggesting

    tiled, runs = studying.tiled, []

    def counted(known):
        runs.append(known)
        return tiled(known)

    monkeypatch.setattr(studying, "tiled", counted)
    nothing = machine_of(2**17, 2**17)
    found = suggesting.suggest_studied(studied("flux"), nothing, pins={})
    assert isinstance(found.result, Infeasible)
    assert len(runs) == 1
