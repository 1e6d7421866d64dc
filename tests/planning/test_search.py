"""The search by itself: bisection, what is proven of which class, and which layers go."""

from __future__ import annotations

import pytest

from devplan.core.types import CacheGrowth, Plan
from devplan.core.workload import Workload
from devplan.planning.search import MAX_TOKENS, largest
from tests.planning.strategies import cpu, layer, machine, plan, text_graph, vision_graph

SMALL = Workload(context=1)


@pytest.mark.parametrize("most", [3, 4, 5, 6, 7, 10, 97])
@pytest.mark.parametrize("high", [None, 98])
def test_the_largest_number_that_works(most, high):
    asked = []

    def works(number: int) -> bool:
        asked.append(number)
        return number <= most

    assert largest(works, low=3, high=high) == most
    assert high is None or max(asked) < high


def test_nothing_works_or_everything_does():
    assert largest(lambda number: number < 5, low=5) is None
    assert largest(lambda number: True, low=1) == MAX_TOKENS
    assert largest(lambda number: True, low=MAX_TOKENS) == MAX_TOKENS
    assert largest(lambda number: number <= MAX_TOKENS - 1, low=MAX_TOKENS - 1) == MAX_TOKENS - 1


STAGES = "contiguous stages in execution order, any order of the GPUs, "


def layers(*sizes):
    return [layer(index, size) for index, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("graph", "cards", "asked", "proven"),
    [
        (
            text_graph(layers(4, 4)),
            machine(20, 20),
            {},
            STAGES + "user pins and default pins kept",
        ),
        (
            text_graph(layers(4, 4)),
            machine(20, 20),
            {"default_pins": False},
            STAGES + "user pins kept",
        ),
        (
            vision_graph(layers(4, 4, 4), [6, 6], merger=2),
            machine(20, 24),
            {},
            STAGES + "user pins kept, default pins kept but for those given up",
        ),
        (
            text_graph(layers(*[4] * 6), embed=2, head=2),
            machine(24, tiers=(cpu(),)),
            {},
            "contiguous stages of the layers that are neither pinned nor offloaded, any order of "
            "the GPUs, user pins and default pins kept",
        ),
        (
            text_graph(layers(6, 4, 6, 4), embed=1, head=1),
            machine(16, 8),
            {},
            "all placements with these pins, by largest share",
        ),
    ],
)
def test_what_is_proven_best_of_what(graph, cards, asked, proven):
    found = plan(graph, cards, SMALL, **asked)
    assert isinstance(found, Plan) and found.certificate.optimal_within == proven


def offloaded(found: Plan) -> list[str]:
    return [name.rpartition(".")[2] for name, at in found.placement.items() if at == "cpu"]


@pytest.mark.parametrize(
    ("sizes", "budget", "gone"),
    [
        # Norm and rotary embedding are 2, the ends 4, and the largest layer that goes needs room to
        # be loaded into: one alone gains nothing.
        ([4, 4, 4, 4], 22, []),
        ([4, 4, 4, 4], 21, ["2", "3"]),
        ([4, 4, 4, 8], 22, ["0", "2"]),
        ([8, 4, 4, 4], 22, ["2", "3"]),
        ([8, 4, 4, 8], 28, ["1", "2"]),
    ],
)
def test_the_fewest_bytes_go(sizes, budget, gone):
    graph = text_graph(layers(*sizes), embed=2, head=2)
    assert offloaded(plan(graph, machine(budget, tiers=(cpu(),)), SMALL)) == gone


def test_a_cache_that_grows_is_what_tokens_are_counted_by():
    grows = (CacheGrowth(bytes_per_token=1),)
    graph = text_graph([layer(0, 4, grows), layer(1, 4, grows)], embed=2, head=2)
    found = plan(graph, machine(24, tiers=(cpu(),)), SMALL, objective="context")
    # 14 of weights, and 5 tokens of two layers.
    assert found.certificate.most_tokens == 5 and found.offload_bytes == {}
    tight = plan(graph, machine(16, tiers=(cpu(),)), Workload(context=2), objective="context")
    # 6 that stay, 4 to load a layer into, and 3 tokens of two layers.
    assert offloaded(tight) == ["0", "1"] and tight.certificate.most_tokens == 3
