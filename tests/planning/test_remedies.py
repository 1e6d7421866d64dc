"""What would make a case fit, kind by kind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devplan.catalog import gpus
from devplan.core.types import CacheGrowth, Infeasible, Plan
from devplan.core.units import GIB, MIB
from devplan.core.workload import Workload
from devplan.planning.infeasible import CARD_SIZES_GIB
from tests.planning.strategies import layer, machine, plan, text_graph

ASIDE = 2
"""Bytes of the norm and of the rotary embedding, on the main card."""


def changes(graph, on, workload=None, **asked) -> list[str]:
    answer = plan(graph, on, workload or Workload(context=4096), **asked)
    assert isinstance(answer, Infeasible)
    return [remedy.change for remedy in answer.remedies]


def of_layers(*sizes: int):
    return text_graph([layer(i, size) for i, size in enumerate(sizes)], embed=0, head=0)


def starting(found: list[str], start: str) -> list[str]:
    return [change for change in found if change.startswith(start)]


# --------------------------------------------------------------------------------------- cards


@pytest.mark.parametrize("size", [8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 141, 192])
def test_the_smallest_card_that_is_sold_and_suffices(size):
    """A byte more asks for the next size."""
    for more, expected in ((0, size), (1, next((s for s in CARD_SIZES_GIB if s > size), None))):
        found = changes(of_layers(size * GIB - ASIDE + more), machine(GIB))
        told = [f"cuda:0 of {expected}GiB instead of 1.00 GiB"] if expected else []
        assert starting(found, "cuda:0 of") == told


def test_sizes_are_those_of_cards_that_are_sold():
    sold = {gpu.marketed_gb for gpu in gpus.load_gpus()}
    assert list(CARD_SIZES_GIB) == sorted(set(CARD_SIZES_GIB))
    assert set(CARD_SIZES_GIB) - sold <= {8, 64}  # of which the catalogue has none


def test_a_larger_card_takes_the_place_of_that_which_needs_the_smallest():
    found = changes(of_layers(7 * GIB, 7 * GIB), machine(8 * GIB, 4 * GIB))
    assert starting(found, "cuda:") == ["cuda:1 of 8GiB instead of 4.00 GiB"]  # else 16
    # Of two that would need the same, the first.
    found = changes(of_layers(7 * GIB, 11 * GIB), machine(8 * GIB, 8 * GIB))
    assert starting(found, "cuda:") == ["cuda:0 of 12GiB instead of 8.00 GiB"]


@pytest.mark.parametrize(("reserve", "size"), [(0, 8), (GIB, 12), (9 * GIB, 24)])
def test_one_more_card_has_the_reserve_of_the_others(reserve, size):
    found = changes(of_layers(8 * GIB, 8 * GIB), machine(8 * GIB + ASIDE, reserve=reserve))
    assert starting(found, "one more") == [f"one more GPU of {size}GiB"]


def test_a_layer_that_no_card_holds_has_no_card_as_remedy():
    found = changes(of_layers(200 * GIB), machine(8 * GIB))
    assert not starting(found, "one more") and not starting(found, "cuda:")


# --------------------------------------------------------------------------- reserve and offload


@pytest.mark.parametrize(
    ("reserve", "lacks", "remedies"),
    [
        (GIB, 1, ["--reserve 1023MiB instead of 1.00 GiB"]),
        (GIB, MIB + 1, ["--reserve 1022MiB instead of 1.00 GiB"]),
        (GIB, GIB, ["--reserve 0MiB instead of 1.00 GiB"]),
        (GIB, GIB + 1, []),
        (3 * MIB // 2, 1, ["--reserve 1MiB instead of 1.50 MiB"]),
        (MIB, 1, ["--reserve 0MiB instead of 1.00 MiB"]),
        (MIB - 1, 1, []),  # nothing that could be typed
        (0, 1, []),
    ],
)
def test_a_smaller_reserve(reserve, lacks, remedies):
    on = machine(4 * GIB - lacks, reserve=reserve)
    assert starting(changes(of_layers(4 * GIB - ASIDE), on), "--reserve") == remedies


def test_nothing_is_offloaded_that_no_card_could_run():
    assert not starting(changes(of_layers(9 * GIB), machine(8 * GIB)), "--offload")


# -------------------------------------------------------------------------------------- workload


GROWS = (CacheGrowth(bytes_per_token=1),)


@pytest.mark.parametrize(
    ("tokens", "batch", "remedies"),
    [
        (9, 1, ["--context 8 instead of 9"]),
        (3, 4, ["--context 2 instead of 3", "--batch 2 instead of 4"]),
        (1, 9, ["--batch 8 instead of 9"]),  # fewer tokens than one there are none
        (9, 9, ["--batch 0"]),
    ],
)
def test_a_smaller_workload(tokens, batch, remedies):
    """8 bytes beside a layer of 4 hold the cache of 8 tokens."""
    graph = text_graph([layer(0, 4, GROWS)], embed=0, head=0)
    workload = Workload(context=tokens, batch=batch)
    found = [
        change
        for change in changes(graph, machine(12 + ASIDE), workload)
        if change.startswith(("--context", "--batch"))
    ]
    assert found == [remedy for remedy in remedies if remedy != "--batch 0"]


# ------------------------------------------------------------------------------------------ pins


@pytest.mark.parametrize(
    ("pins", "remedies"),
    [
        # either alone is in the way, or each for itself, or both
        (
            {"model.layers.0": "0", "model.layers.1": "0"},
            ["without --pin model.layers.0=0", "without --pin model.layers.1=0"],
        ),
        ({"model.layers.0": "0", "lm_head": "0"}, []),
        (
            {"model.layers": "0", "model.norm": "0"},
            ["without --pin model.layers=0"],
        ),
        (
            {"model.layers.0": "0", "model.layers.1": "0", "model.layers.2": "0"},
            ["without any --pin"],
        ),
    ],
)
def test_pins_that_are_in_the_way(pins, remedies):
    graph = of_layers(*[6 * GIB] * 3)
    on = machine(7 * GIB, 20 * GIB)
    if not remedies:
        assert isinstance(plan(graph, on, Workload(context=4096), pins=pins), Plan)
        return
    assert starting(changes(graph, on, pins=pins), "without") == remedies


def test_another_graph_keeps_the_pins_of_the_user():
    """With the layers pinned together, halves of them have to fit together."""
    pins = {"model.layers": "0"}
    on = machine(9 + ASIDE, 100)

    def smaller(size: int):
        return lambda: of_layers(*[size] * 4)

    alternatives = {"--quantize 8bit": smaller(3), "--quantize 4bit": smaller(2)}
    found = changes(of_layers(*[6] * 4), on, pins=pins, alternatives=alternatives)
    assert starting(found, "--quantize") == ["--quantize 4bit"]
    assert found.index("--quantize 4bit") < found.index("without --pin model.layers=0")


def test_another_graph_keeps_the_default_pins_as_asked():
    """Without them the head may lie on the second card."""
    graph = text_graph([layer(0, 90)], embed=0, head=90)
    other = replace(text_graph([layer(0, 90)], embed=0, head=9))
    on = machine(20, 80)
    for default_pins in (True, False):
        found = changes(
            graph, on, default_pins=default_pins, alternatives={"--dtype x": lambda: other}
        )
        assert not starting(found, "--dtype")
    on = machine(20, 100)
    found = changes(graph, on, alternatives={"--dtype x": lambda: other})
    assert starting(found, "--dtype") == ["--dtype x"]
