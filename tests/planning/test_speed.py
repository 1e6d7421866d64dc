"""What a placement takes in time, by hand: work on the cards, copies between them, walks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devplan.core.costs import DECODE, PREFILL, Link, StepWork, Work
from devplan.core.types import CacheGrowth, SharedInput
from devplan.core.workload import Workload
from devplan.machine.gpu_facts import Speed
from devplan.planning.routes import (
    execution_device,
    shared_copies_of,
    stages_of,
    tower_modules,
    transfers_of,
)
from devplan.planning.speed import NEW_TOKENS, Request, predicted_timing, predicted_traffic
from tests.planning.strategies import block, cpu, layer, machine, text_graph, vision_graph

# 20 tokens of prompt in two sequences: 40 tokens enter in a prefill, 2 in a decode step.
WORKLOAD = Workload(context=23, batch=2)
SLOW, FAST = Speed(bytes_per_s=10, flops_per_s=100), Speed(bytes_per_s=20, flops_per_s=400)
WORK = StepWork(
    prefill=Work(flops=1000, read_bytes=50),
    decode=Work(flops=10, read_bytes=50),
)
ENCODES = StepWork(prefill=Work(flops=1000, read_bytes=50))
"""Idle in decode steps."""
CACHE = (CacheGrowth(constant_bytes=15),)
"""30 bytes in two sequences."""
ON = replace(
    machine(100, 100, tiers=(cpu(),)),
    links=(
        Link(
            source="cuda:0",
            target="cuda:1",
            name="wire",
            bytes_per_s=10,
            latency_s=1.0,
            basis="given",
        ),
        Link(
            source="cuda:0", target="cpu", name="bus", bytes_per_s=5, latency_s=2.0, basis="given"
        ),
    ),
)
LAYERS = [replace(layer(index, 8, CACHE), work=WORK) for index in range(3)]
GRAPH = text_graph(LAYERS)
SPLIT = {
    "model.embed_tokens": "cuda:0",
    "model.rotary_emb": "cuda:0",
    "model.layers.0": "cuda:0",
    "model.layers.1": "cuda:1",
    "model.layers.2": "cuda:1",
    "model.norm": "cuda:0",
    "lm_head": "cuda:0",
}


def changed(graph, **by_name):
    """The graph with fields of some blocks replaced; names with ``_`` for the dots."""
    known = {each.name.replace(".", "_"): each.name for each in graph.blocks}
    fields = {known[name]: values for name, values in by_name.items()}
    blocks = tuple(replace(each, **fields.get(each.name, {})) for each in graph.blocks)
    return replace(graph, blocks=blocks)


# -------------------------------------------------------------------------------------- work


def seconds_of(graph, name: str, speed: Speed = SLOW) -> tuple[float, float]:
    request = Request(graph=graph, workload=WORKLOAD)
    return tuple(
        request.block_seconds(graph.block(name), step, speed) for step in (PREFILL, DECODE)
    )


def test_a_prefill_computes_and_a_decode_step_reads_weights_and_cache():
    assert seconds_of(GRAPH, "model.layers.0") == (10.0, 8.0)
    assert seconds_of(GRAPH, "model.layers.0", FAST) == (2.5, 4.0)
    bare = changed(GRAPH, model_layers_0={"cache": ()})
    assert seconds_of(bare, "model.layers.0") == (10.0, 5.0)
    # A prefill that computes little reads its weights too, but no cache.
    reads = StepWork(prefill=Work(flops=1, read_bytes=70), decode=Work(flops=900))
    small = changed(GRAPH, model_layers_0={"work": reads})
    assert seconds_of(small, "model.layers.0") == (7.0, 9.0)


def test_what_was_not_counted_is_a_dense_layer_of_16_bit_weights():
    """4 weights: 8 flops a token, and 8 bytes."""
    graph = changed(GRAPH, model_layers_0={"work": None})
    assert seconds_of(graph, "model.layers.0") == (40 * 8 / 100, (8 + 30) / 10)
    head = changed(GRAPH, lm_head={"weight_bytes": 200})
    assert seconds_of(head, "lm_head") == (40 * 200 / 100, 20.0)
    # A look-up reads next to nothing, whatever the table holds.
    assert seconds_of(head, "model.embed_tokens") == (0.0, 0.0)


def test_the_prompt_is_the_context_less_the_steps_of_a_run_and_never_empty():
    for context, prompt in ((23, 20), (5, 2), (4, 1), (3, 1), (1, 1)):
        request = Request(graph=GRAPH, workload=Workload(context=context, batch=3))
        assert request.prompt_tokens == prompt
        assert request.tokens(PREFILL) == 3 * prompt and request.tokens(DECODE) == 3


def test_a_model_without_decode_steps_generates_nothing():
    everywhere = {each.name.replace(".", "_"): {"work": ENCODES} for each in GRAPH.blocks}
    encoder = changed(GRAPH, **everywhere)
    about = {"workload": WORKLOAD}
    assert Request(graph=encoder, **about).new_tokens == 1
    assert Request(graph=encoder, **about).num_steps == {PREFILL: 1, DECODE: 0}
    for field in ({"work": WORK}, {"work": None}):
        one = changed(encoder, model_layers_1=field)
        assert Request(graph=one, **about).new_tokens == NEW_TOKENS
        assert Request(graph=one, **about).num_steps == {PREFILL: 1, DECODE: NEW_TOKENS - 1}
    traffic = predicted_traffic(encoder, ON, WORKLOAD, SPLIT)
    assert {each.step for each in traffic.routes} == {PREFILL}
    timing = predicted_timing(encoder, ON, WORKLOAD, (SLOW, SLOW), SPLIT, traffic, 0.0)
    # Blocks of work 10 s each, of which 2 are on the second card; two copies.
    assert timing.request_s == 7 * 10.0 + 2 * (1 + 80 / 10)


def test_the_time_of_every_card():
    idle = {"work": StepWork()}
    graph = changed(GRAPH, model_rotary_emb=idle, model_norm=idle, lm_head=idle)
    between = StepWork(prefill=Work(flops=300), decode=Work(read_bytes=20))
    graph = replace(graph, between_work=between)
    traffic = predicted_traffic(graph, ON, WORKLOAD, SPLIT)
    timing = predicted_timing(graph, ON, WORKLOAD, (SLOW, FAST), SPLIT, traffic, 0.25)
    found = {card.device: (card.prefill_s, card.decode_s) for card in timing.cards}
    # One layer and the code between the blocks; two layers on the faster card.
    assert found == {"cuda:0": (10.0 + 3.0, 8.0 + 2.0), "cuda:1": (2 * 2.5, 2 * 4.0)}
    assert (timing.prompt_tokens, timing.new_tokens) == (20, NEW_TOKENS)
    assert timing.transfer_s == {PREFILL: 2 * (1 + 8.0), DECODE: 2 * (1 + 0.4)}
    assert timing.lower_bound_s == 0.25
    without = replace(graph, between_work=None)
    again = predicted_timing(without, ON, WORKLOAD, (SLOW, FAST), SPLIT, traffic, 0.0)
    assert again.cards[0].prefill_s == 10.0
    # An offloaded layer is computed on the main device.
    away = {**SPLIT, "model.layers.1": "cpu"}
    moved = predicted_timing(without, ON, WORKLOAD, (SLOW, FAST), away, traffic, 0.0)
    assert [card.prefill_s for card in moved.cards] == [20.0, 2.5]


# ------------------------------------------------------------------------------------- copies


def routes(graph, placement) -> dict[tuple[str, str, str], tuple[int, int, float]]:
    traffic = predicted_traffic(graph, ON, WORKLOAD, placement)
    found = {
        (each.step, each.source, each.target): (each.num_copies, each.num_bytes, each.seconds)
        for each in traffic.routes
    }
    assert len(found) == len(traffic.routes)
    assert traffic.prompt_tokens == 20 and traffic.basis == "graph"
    return found


def test_activations_cross_once_and_what_is_shared_once_for_every_block():
    shared = {"shared_inputs": (SharedInput(maker="model.rotary_emb", bytes_per_token=4),)}
    graph = changed(GRAPH, model_layers_0=shared, model_layers_1=shared, model_layers_2=shared)
    # To the second card: 2 bytes a token of hidden states, and twice 4.
    assert routes(graph, SPLIT) == {
        (PREFILL, "cuda:0", "cuda:1"): (3, 400, 3 + 40.0),
        (PREFILL, "cuda:1", "cuda:0"): (1, 80, 1 + 8.0),
        (DECODE, "cuda:0", "cuda:1"): (3, 20, 3 + 2.0),
        (DECODE, "cuda:1", "cuda:0"): (1, 4, 1 + 0.4),
    }
    request = Request(graph=graph, workload=WORKLOAD)
    taken = request.copy_seconds(ON, "cuda:0", "cuda:1", 10, 3)
    assert taken == 43.0 + (NEW_TOKENS - 1) * 5.0
    assert request.copy_seconds(ON, "cuda:1", "cuda:1", 10, 3) == 0.0
    assert routes(graph, dict.fromkeys(SPLIT, "cuda:0")) == {}


def test_offloaded_weights_are_copied_in_every_step_in_which_they_do_something():
    placement = {**dict.fromkeys(SPLIT, "cuda:0"), "model.layers.0": "cpu", "lm_head": "cpu"}
    # 8 and 5 bytes in two copies
    assert routes(GRAPH, placement) == {
        (PREFILL, "cpu", "cuda:0"): (2, 13, 4 + 2.6),
        (DECODE, "cpu", "cuda:0"): (2, 13, 4 + 2.6),
    }
    encodes = changed(GRAPH, model_layers_0={"work": ENCODES})
    assert routes(encodes, placement) == {
        (PREFILL, "cpu", "cuda:0"): (2, 13, 4 + 2.6),
        (DECODE, "cpu", "cuda:0"): (1, 5, 2 + 1.0),
    }
    never = changed(GRAPH, model_layers_0={"work": StepWork()}, lm_head={"work": StepWork()})
    assert routes(never, placement) == {}


# -------------------------------------------------------------------------------------- walks


def crossings(graph, placement) -> list[tuple[str, str, str, int]]:
    return [
        (each.source, each.target, each.before, each.bytes_per_token)
        for each in transfers_of(graph, placement, "cuda:0")
    ]


def test_offloaded_blocks_run_on_the_main_device():
    assert [execution_device(d, "cuda:1") for d in ("cpu", "disk", "cuda:0", "cuda:1")] == [
        "cuda:1",
        "cuda:1",
        "cuda:0",
        "cuda:1",
    ]
    placement = {**SPLIT, "model.layers.0": "cpu", "model.layers.2": "disk"}
    assert crossings(GRAPH, placement) == [
        ("cuda:0", "cuda:1", "model.layers.1", 2),
        ("cuda:1", "cuda:0", "model.layers.2", 2),
    ]
    # What runs together lies apart: four stages more.
    devices = [stage.device for stage in stages_of(GRAPH, placement)]
    assert devices == ["cuda:0", "cpu", "cuda:1", "disk", "cuda:0"]


def test_what_receives_nothing_and_what_did_not_run_is_on_no_way():
    """The rotary embedding receives nothing, and a bare tensor is no module."""
    away = {**SPLIT, "model.rotary_emb": "cuda:1"}
    assert crossings(GRAPH, away) == crossings(GRAPH, SPLIT)
    bare = block("model.scale", 1, class_name="Parameter")
    more = replace(GRAPH, blocks=(*GRAPH.blocks[:3], bare, *GRAPH.blocks[3:]))
    placement = {**SPLIT, "model.scale": "cuda:1"}
    assert crossings(more, placement) == crossings(GRAPH, SPLIT)
    assert "model.scale" not in [b for stage in stages_of(more, placement) for b in stage.blocks]
    unreached = replace(GRAPH, unexecuted=("model.layers.1", "model.layers.2"))
    assert crossings(unreached, SPLIT) == []
    assert [stage.device for stage in stages_of(unreached, SPLIT)] == ["cuda:0"]


def test_a_tower_is_walked_from_the_main_device_to_where_the_embedding_is():
    graph = vision_graph(LAYERS, [3, 3])
    assert tower_modules(graph) == ("model.visual",)
    here = dict.fromkeys(graph.names, "cuda:0")
    tower = [name for name in graph.names if name.startswith("model.visual")]
    there = {**here, **dict.fromkeys(tower, "cuda:1")}
    first, *_, merger = tower
    assert crossings(graph, here) == []
    assert crossings(graph, there) == [
        ("cuda:0", "cuda:1", first, 2),
        ("cuda:1", "cuda:0", "model.embed_tokens", 2),
    ]
    half = {**here, first: "cuda:1"}
    assert [each[:2] for each in crossings(graph, half)] == [
        ("cuda:0", "cuda:1"),
        ("cuda:1", "cuda:0"),
    ]
    assert crossings(graph, {**there, merger: "cuda:0"})[-1][2] == merger
    # What is merged has the size of a hidden state, not of what enters the embedding.
    wide = changed(graph, model_layers_0={"input_bytes_per_token": 7})
    assert crossings(wide, there)[-1][3] == 7


@pytest.mark.parametrize(
    ("maker", "made_at"), [("model.rotary_emb", "cuda:1"), (None, "cuda:0"), ("a.b", "cuda:0")]
)
def test_what_is_shared_is_copied_from_where_it_is_made(maker, made_at):
    shared = {"shared_inputs": (SharedInput(maker=maker, bytes_per_token=4),) * 2}
    graph = changed(GRAPH, model_layers_0=shared, model_layers_1=shared, model_norm=shared)
    placement = {**SPLIT, "model.rotary_emb": "cuda:1", "model.norm": "cpu"}
    (copies,) = shared_copies_of(graph, placement, "cuda:0")
    # Layer 0 and the norm, which is offloaded, run on the main device, layer 1 on the other.
    blocks = 2 if made_at == "cuda:1" else 1
    assert (copies.source, copies.num_copies) == (made_at, 2 * blocks)
    assert copies.bytes_per_token == 8 * blocks and copies.target != copies.source
