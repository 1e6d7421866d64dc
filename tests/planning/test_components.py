"""What stays together of a pipeline whose components are split."""

from __future__ import annotations

import pytest

from devplan.core.types import ActivationGrowth, BlockGraph
from devplan.core.workload import Workload
from devplan.planning.components import Components, _glue, _levels
from devplan.planning.instance import PlanRequest
from tests.planning.strategies import block, machine

GRAPH = BlockGraph(
    blocks=(
        block("text.embed", 1),
        block("text.layers.0", 1, stack="text.layers"),
        block("text.layers.1", 1, stack="text.layers"),
        block("text.norm", 1),
        block("text.head", 1),
        block("vae.encoder", 1),
        block("vae.decoder", 1),
        block("safety", 1),
    ),
    components=("text", "vae", "safety"),
)
# What lies before a layer goes with it, what lies behind the last one with that.
TEXT = [("text.embed", "text.layers.0"), ("text.layers.1", "text.norm", "text.head")]
VAE = [("vae.encoder", "vae.decoder")]


@pytest.mark.parametrize(
    ("apart", "groups"),
    [
        ((), [tuple(name for name in GRAPH.names if name.startswith("text")), *VAE]),
        (("text",), [*TEXT, *VAE]),
        # without layers nothing of it can be split
        (("text", "vae", "safety"), [*TEXT, *VAE]),
    ],
)
def test_blocks_that_stay_together(apart, groups):
    assert _glue(GRAPH, frozenset(apart)) == groups


def needing(name: str, weight_bytes: int, active: int):
    return block(
        name, weight_bytes, activation=ActivationGrowth(samples=((1, active), (8, active)))
    )


PIPELINE = BlockGraph(
    blocks=(
        needing("text.a", 30, 5),
        needing("text.b", 10, 10),
        needing("unet.a", 50, 20),
        needing("vae.a", 8, 1),
    ),
    components=("text", "unet", "vae"),
    home="vae",
    between=ActivationGrowth(samples=((1, 30), (8, 30))),
)


def components(*budgets: int, graph: BlockGraph = PIPELINE, **asked) -> Components:
    request = PlanRequest(machine=machine(*budgets), workload=Workload(context=4), **asked)
    return Components(graph=graph, request=request)


def test_the_share_of_a_card_is_its_load_over_the_room_beside_the_largest_peak():
    parts = components(130, 60, 100)
    assert parts.load_bytes == {"text": 40, "unet": 50, "vae": 8}
    assert parts.active_bytes == {"text": 10, "unet": 20, "vae": 1}
    # The code between the components runs on the main device.
    assert parts.share(("text", "vae"), "cuda:0") == 48 / (130 - 30)
    assert parts.share(("text", "unet"), "cuda:2") == 90 / (100 - 20)
    assert parts.share((), "cuda:1") == 0
    tight = components(30, 20)
    assert tight.share((), "cuda:0") == 0 and tight.share(("vae",), "cuda:0") == float("inf")
    assert tight.share(("unet",), "cuda:1") == float("inf")
    assert tight.too_large() == ["text", "unet"] and parts.too_large() == []
    assert components(70, 70).too_large() == []  # exactly full: 50 and 20
    assert components(69, 69).too_large() == ["unet"]


@pytest.mark.parametrize(
    ("asked", "fixed"),
    [
        ({}, {"vae": "cuda:0"}),
        ({"default_pins": False}, {}),
        ({"pins": {"text.a": "1", "vae": "cuda:1"}}, {"text": "cuda:1", "vae": "cuda:1"}),
        ({"pins": {"text.a": "1", "text.b": "1"}}, {"text": "cuda:1", "vae": "cuda:0"}),
        ({"pins": {"text.a": "1", "text.b": "0"}}, None),
    ],
)
def test_pins_say_where_a_component_is(asked, fixed):
    assert components(100, 100, **asked).fixed == fixed


def test_components_are_split_the_largest_first_and_the_home_last():
    def levels(*budgets):
        return [sorted(each) for each in _levels(components(*budgets))]

    assert levels(100) == [["unet"], ["text", "unet"], ["text", "unet", "vae"]]
    assert levels(60) == [["text", "unet"], ["text", "unet", "vae"]]
    assert levels(30, 30)[0] == ["text", "unet"]
