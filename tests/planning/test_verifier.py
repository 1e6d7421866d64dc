"""The verifier finds what is wrong: each test spoils a good plan in one way."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from devplan.core.errors import DevplanError, VerificationError
from devplan.core.types import CacheGrowth
from devplan.core.workload import Workload
from devplan.planning.instance import PlanRequest
from devplan.planning.routes import route, tower_modules
from devplan.planning.verifier import verify
from tests.planning.strategies import cpu, layer, machine, plan, text_graph, vision_graph

LAYERS = [layer(i, 4, (CacheGrowth(bytes_per_token=1),)) for i in range(4)]
GRAPH = text_graph(LAYERS, tied=True)
MACHINE = machine(20, 20)
WORKLOAD = Workload(context=2)
PINS = {"model.layers.3": "1"}
REQUEST = PlanRequest(machine=MACHINE, workload=WORKLOAD, pins=PINS)
GOOD = plan(GRAPH, MACHINE, WORKLOAD, pins=PINS)


def moved(block: str, device: str):
    return replace(GOOD, placement={**GOOD.placement, block: device})


def load(**changes):
    return replace(GOOD, loads=(replace(GOOD.loads[0], **changes), GOOD.loads[1]))


def certificate(**changes):
    return replace(GOOD, certificate=replace(GOOD.certificate, **changes))


SPOILED = {
    "different blocks": replace(GOOD, placement=dict(list(GOOD.placement.items())[1:])),
    "not there": moved("model.layers.0", "cuda:9"),
    "was pinned to": replace(moved("model.layers.3", "cuda:0"), pins=()),
    "pin of model.embed_tokens": moved("model.embed_tokens", "cuda:1"),
    "tied blocks": replace(moved("lm_head", "cuda:1"), pins=()),
    "neither pinned nor": replace(GOOD, pins=()),
    "counted": load(cache_bytes=GOOD.loads[0].cache_bytes + 1),
    "another GPU": load(capacity_bytes=99),
    "do not walk": replace(GOOD, stages=GOOD.stages[1:]),
    "goes elsewhere": replace(
        GOOD, transfers=(replace(GOOD.transfers[0], target="cuda:7"), *GOOD.transfers[1:])
    ),
    "wrong bottleneck": certificate(bottleneck=0.95),
    "lower bound above": certificate(lower_bound=0.999),
    "fewer tokens": certificate(most_tokens=1),
    "bound below": certificate(most_tokens=5, most_tokens_bound=4),
    "bound below what": certificate(most_tokens=None, most_tokens_bound=4),
    "stated": load(weight_bytes=GOOD.loads[0].weight_bytes - 1),
    "cuda:0: stated": load(onload_bytes=1),
    "cuda:0: stated .*, counted": load(activation_bytes=1),
    "to the same device": replace(
        GOOD, transfers=(replace(GOOD.transfers[0], source=GOOD.transfers[0].target),)
    ),
    "mixed stage": replace(
        GOOD, stages=(replace(GOOD.stages[0], device="cuda:1"), *GOOD.stages[1:])
    ),
}


def test_the_good_plan_passes():
    verify(GOOD, GRAPH, REQUEST)


@pytest.mark.parametrize("fact", SPOILED)
def test_a_spoiled_plan_does_not_pass(fact):
    with pytest.raises(VerificationError, match=fact):
        verify(SPOILED[fact], GRAPH, REQUEST)


def test_a_plan_for_larger_cards_does_not_pass():
    small = machine(14, 14)
    loads = tuple(replace(card_load, capacity_bytes=14) for card_load in GOOD.loads)
    with pytest.raises(VerificationError, match="cuda:1 lacks 4 bytes"):
        verify(replace(GOOD, loads=loads), GRAPH, replace(REQUEST, machine=small))


def test_a_tower_is_walked_apart_with_its_merger():
    graph = vision_graph(LAYERS, [2, 2])
    assert tower_modules(graph) == ("model.visual",)
    assert not any(block.name.startswith("model.visual") for block in route(graph))
    pins = {"model.visual": "1", "model.layers": "0"}
    answer = plan(graph, machine(60, 20), WORKLOAD, pins=pins)
    crossings = [(t.source, t.target, t.before) for t in answer.transfers]
    assert crossings == [
        ("cuda:0", "cuda:1", "model.visual.blocks.0"),
        ("cuda:1", "cuda:0", "model.embed_tokens"),
    ]


def test_it_is_a_bug_of_ours_and_no_mistake_of_the_users():
    assert not issubclass(VerificationError, DevplanError)


def test_optimised_python_finds_what_is_wrong_too():
    """``python -O`` drops assertions: a map on a card that does not exist used to pass."""
    code = (
        "from devplan.core.errors import VerificationError\n"
        "from devplan.planning.verifier import verify\n"
        "from tests.planning.test_verifier import *\n"
        "assert False, 'this is dropped'\n"
        "for fact, wrong in SPOILED.items():\n"
        "    try:\n"
        "        verify(wrong, GRAPH, REQUEST)\n"
        "    except VerificationError:\n"
        "        continue\n"
        "    print('passed:', fact)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-O", "-c", code], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def tied(*groups: tuple[str, ...]):
    return replace(GRAPH, tied=groups)


CHAINS = {
    "a chain": tied(
        ("model.embed_tokens", "lm_head"), ("lm_head", "model.norm"), ("model.norm", LAYERS[1].name)
    ),
    "its links in another order": tied(
        ("model.norm", LAYERS[1].name), ("model.embed_tokens", "lm_head"), ("lm_head", "model.norm")
    ),
    "two that a third joins": tied(
        ("model.embed_tokens", LAYERS[0].name),
        ("lm_head", "model.norm"),
        ("model.norm", "model.embed_tokens"),
    ),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_blocks_tied_to_a_layer_through_others_need_no_pin(chain):
    """Such blocks are one unit with the layer, and go where it goes."""
    graph = CHAINS[chain]
    found = plan(graph, MACHINE, WORKLOAD, pins=PINS)
    joined = {name for group in graph.tied for name in group}
    assert len({found.placement[name] for name in joined}) == 1
    verify(found, graph, REQUEST)


def test_blocks_tied_among_themselves_alone_are_not_excused():
    graph = tied(("model.embed_tokens", "lm_head"), ("lm_head", "model.norm"))
    found = plan(graph, MACHINE, WORKLOAD, pins=PINS)
    with pytest.raises(VerificationError, match="neither pinned nor"):
        verify(replace(found, pins=()), graph, REQUEST)


OFFLOADED = [
    plan(text_graph(LAYERS), machine(32, tiers=(tier,)), WORKLOAD) for tier in (cpu(8), cpu())
]


def test_what_is_offloaded_is_counted_and_fits_its_tier():
    graph = text_graph(LAYERS)
    for tier, found in zip((cpu(8), cpu()), OFFLOADED, strict=True):
        asked = replace(REQUEST, machine=machine(32, tiers=(tier,)), pins={})
        verify(found, graph, asked)
        with pytest.raises(VerificationError, match="cpu: wrong total"):
            verify(replace(found, offload_bytes={"cpu": 1}), graph, asked)
        assert found.offload_bytes == {"cpu": 8}
    small = replace(REQUEST, machine=machine(32, tiers=(cpu(7),)), pins={})
    with pytest.raises(VerificationError, match="cpu overflows"):
        verify(OFFLOADED[1], graph, small)
