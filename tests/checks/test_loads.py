"""What a map puts on each device, by hand, and whether a repair fits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devplan.core.device_map import device_map_of
from devplan.core.findings import DevicePeak, RunRecord
from devplan.core.types import BlockGraph, CacheGrowth, Card, DeviceMemory, Machine
from devplan.core.workload import Workload
from devplan.rules.context import CheckContext, Structure, TensorFact
from devplan.rules.loads import device_loads, fits_after
from tests.planning.strategies import block

SIZES = {"embed.weight": 100, "layers.0.weight": 40, "layers.1.weight": 60, "head.weight": 100}
TENSORS = {
    name: TensorFact(
        name=name,
        owner=name.rpartition(".")[0],
        num_bytes=size,
        is_parameter=True,
        persistent=True,
        first_name="embed.weight" if name == "head.weight" else name,
    )
    for name, size in SIZES.items()
} | {
    "layers.1.table": TensorFact(
        name="layers.1.table",
        owner="layers.1",
        num_bytes=8,
        is_parameter=False,
        persistent=True,
        first_name="layers.1.table",
    )
}
GROWS = (CacheGrowth(bytes_per_token=1, constant_bytes=1),)
GRAPH = BlockGraph(
    blocks=(
        block("embed", 100, onload_bytes=100),
        block("layers.0", 40, cache=GROWS, onload_bytes=40, loading_bytes=3),
        block("layers.1", 60, cache=GROWS, onload_bytes=60, loading_bytes=30),
        block("head", 0, onload_bytes=0),
    )
)
STRUCTURE = Structure(
    class_name="M",
    modules=dict.fromkeys(["", *GRAPH.names], "Module"),
    tensors=TENSORS,
    tied=(("embed.weight", "head.weight"),),
    no_split=frozenset(),
    graph=GRAPH,
)
TOGETHER = {"embed": "cuda:0", "layers.0": "cuda:0", "layers.1": "cuda:1", "head": "cuda:0"}
CACHE = 2 * (5 + 1)  # of a layer at 5 tokens in two sequences


def subject(entries, *budgets: int, runs=(), reserve: int = 0) -> CheckContext:
    cards = tuple(
        Card(
            device=f"cuda:{index}",
            name="a",
            capacity_bytes=budget + reserve,
            reserve_bytes=reserve,
        )
        for index, budget in enumerate(budgets)
    )
    return CheckContext(
        model="m",
        structure=STRUCTURE,
        map=device_map_of(entries),
        machine=Machine(cards=cards, main_device="cuda:0") if budgets else None,
        main_device="cuda:0",
        workload=Workload(context=5, batch=2),
        runs=runs,
    )


def run(*peaks: tuple[str, int], is_short: bool = False) -> RunRecord:
    return RunRecord(
        phases=("prefill",),
        inputs="text",
        is_short=is_short,
        peaks=tuple(
            DevicePeak(
                device=device,
                weight_bytes=500,
                cache_bytes=50,
                peak_bytes=550 + beyond,
                module=None,
                phase="prefill",
            )
            for device, beyond in peaks
        ),
    )


def test_tied_tensors_count_once_on_a_device_and_again_on_another():
    loads = device_loads(subject(TOGETHER))
    assert loads == {
        "cuda:0": DeviceMemory(
            device="cuda:0", weight_bytes=140, cache_bytes=CACHE, activation_bytes=3
        ),
        "cuda:1": DeviceMemory(
            device="cuda:1", weight_bytes=60, buffer_bytes=8, cache_bytes=CACHE, activation_bytes=30
        ),
    }
    assert loads["cuda:1"].load_bytes == 60 + 8 + CACHE
    assert loads["cuda:1"].peak_bytes == 60 + 8 + CACHE + 30
    apart = device_loads(subject({**TOGETHER, "head": "cuda:1"}))
    assert [load.weight_bytes for load in apart.values()] == [140, 160]


def test_what_is_offloaded_is_computed_on_the_main_device():
    """Its buffers and cache are there, and room for the largest of its blocks."""
    entries = {**TOGETHER, "layers.0": "disk", "layers.1": "cpu"}
    loads = device_loads(subject(entries, runs=(run(("cuda:0", 90)),)))
    assert loads == {
        "cuda:0": DeviceMemory(
            device="cuda:0",
            weight_bytes=100,
            buffer_bytes=8,
            cache_bytes=2 * CACHE,
            onload_bytes=60,
            activation_bytes=90 - 60,  # the run brought the weights too
        )
    }
    everything = device_loads(subject({"": "cpu"}))
    assert everything["cuda:0"].onload_bytes == 100 and everything["cuda:0"].activation_bytes == 0


def test_the_fullest_moment_of_runs_at_the_workload_counts():
    runs = (run(("cuda:0", 7), ("cuda:1", 40)), run(("cuda:0", 9), ("cuda:1", 2)))
    short = run(("cuda:0", 900), ("cuda:1", 900), is_short=True)
    loads = device_loads(subject(TOGETHER, runs=(*runs, short)))
    assert [load.activation_bytes for load in loads.values()] == [9, 40]
    # Where loading needs more than running does, that counts.
    loads = device_loads(subject(TOGETHER, runs=(run(("cuda:1", 29)),)))
    assert [load.activation_bytes for load in loads.values()] == [3, 30]


def test_what_no_entry_places_is_on_no_device():
    loads = device_loads(subject({"layers.1": "cuda:1"}))
    assert set(loads) == {"cuda:0", "cuda:1"}
    assert loads["cuda:0"] == DeviceMemory(device="cuda:0")
    assert loads["cuda:1"].weight_bytes == 60


FIRST, SECOND = 140 + CACHE + 3, 60 + 8 + CACHE + 30


@pytest.mark.parametrize(
    ("budgets", "change", "dropped", "fits"),
    [
        ((), {"layers.0": "cuda:1"}, (), True),  # nothing is known of the cards
        ((FIRST, SECOND + 40 + CACHE), {"layers.0": "cuda:1"}, (), True),
        ((FIRST, SECOND + 40 + CACHE - 1), {"layers.0": "cuda:1"}, (), False),
        # a card that overflows anyway is not the repair's fault, unless it adds to it
        ((1, SECOND + 40 + CACHE), {"layers.0": "cuda:1"}, (), True),
        ((1, SECOND), {"layers.1": "cuda:1"}, (), True),
        ((FIRST + 1, 1), {"layers.1": "cuda:0"}, (), False),
        # where an entry goes, what it placed goes with it
        ((1000, 1), {"layers": "cuda:0"}, ("layers.1",), True),
        ((FIRST, SECOND), {"layers": "cuda:0"}, ("layers.1",), False),
    ],
)
@pytest.mark.parametrize("reserve", [0, 17])
def test_a_repair_fits_where_it_overflows_no_card_that_it_adds_to(
    budgets, change, dropped, fits, reserve
):
    assert fits_after(subject(TOGETHER, *budgets, reserve=reserve), change, dropped) is fits


def test_a_card_that_held_nothing_may_take_what_it_holds():
    entries = {key: "cuda:0" for key in TOGETHER}
    for budget, fits in ((60 + 8 + CACHE + 30, True), (60 + 8 + CACHE + 29, False)):
        assert fits_after(subject(entries, 1000, budget), {"layers.1": "cuda:1"}) is fits
    # Cards that the map does not name hold nothing.
    three = replace(subject(entries, 1000, 1, 1))
    assert fits_after(three, {"layers.1": "cuda:0"})
