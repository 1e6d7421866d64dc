"""Small random problems and cases, for the properties of solvers and planner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from devplan.core.types import (
    ActivationGrowth,
    Block,
    BlockGraph,
    CacheGrowth,
    Card,
    Infeasible,
    Machine,
    OffloadTier,
    Plan,
)
from devplan.core.workload import Workload
from devplan.planning.instance import PlanRequest
from devplan.planning.planner import place
from devplan.planning.problem import Assignment, Problem, Slot, is_contiguous
from devplan.planning.solvers import exhaustive


def plan(graph: BlockGraph, on: Machine, workload: Workload, **asked) -> Plan | Infeasible:
    """The plan at that workload."""
    return place(graph, PlanRequest(machine=on, workload=workload, **asked))


SIZES = st.one_of(st.sampled_from([3, 4, 6, 8]), st.integers(0, 30))
"""Repeated sizes as in models, and arbitrary ones."""


@st.composite
def problems(draw, *, max_items: int = 6, max_slots: int = 4, pins: bool = True) -> Problem:
    num_slots = draw(st.integers(1, max_slots))
    loads = draw(st.lists(SIZES, min_size=0, max_size=max_items))
    slot = st.none() | st.integers(0, num_slots - 1)
    pinned = {}
    if pins and loads:
        item = st.integers(0, len(loads) - 1)
        pinned = draw(st.dictionaries(item, st.integers(0, num_slots - 1), max_size=2))
    active = st.sampled_from([0, 0, 0, 2, 5, 9])
    return Problem(
        loads_bytes=tuple(loads),
        activations_bytes=tuple(draw(active) for _ in loads) if draw(st.booleans()) else (),
        slots=tuple(draw(_slots(index)) for index in range(num_slots)),
        pinned=pinned,
        first=draw(slot),
        last=draw(slot),
        main=draw(slot),
    )


@st.composite
def _slots(draw, index: int) -> Slot:
    base = draw(st.sampled_from([0, 0, 0, 5, 11]))
    return Slot(
        device=f"cuda:{index}",
        budget_bytes=draw(st.sampled_from([10, 10, 24, 17, 40])),
        base_bytes=base,
        active_bytes=draw(st.sampled_from([0, 0, 0, 3])),
        in_use=base > 0,
    )


def block(name: str, weight_bytes: int, **kwargs) -> Block:
    return Block(
        **{
            "name": name,
            "class_name": "Module",
            "weight_bytes": weight_bytes,
            "buffer_bytes": 0,
            "onload_bytes": weight_bytes,
            "input_bytes_per_token": 2,
        }
        | kwargs
    )


def layer(index: int, weight_bytes: int, cache: tuple[CacheGrowth, ...] = ()) -> Block:
    return block(
        f"model.layers.{index}",
        weight_bytes,
        stack="model.layers",
        stage_bound=True,
        cache=cache,
    )


def text_graph(layers: list[Block], *, embed: int = 5, head: int = 5, tied: bool = False):
    """Embedding, rotary embedding, layers, norm, head."""
    blocks = (
        block("model.embed_tokens", embed),
        block("model.rotary_emb", 0, buffer_bytes=1, input_bytes_per_token=0),
        *layers,
        block("model.norm", 1),
        block("lm_head", 0 if tied else head),
    )
    ties = (("model.embed_tokens", "lm_head"),) if tied else ()
    return BlockGraph(blocks=blocks, tied=ties, embedding="model.embed_tokens", head="lm_head")


def vision_graph(layers: list[Block], towers: list[int], *, merger: int = 2) -> BlockGraph:
    """The same with a tower of blocks and its merger before the layers."""
    text = text_graph(layers)
    stack = "model.visual.blocks"
    tower = [block(f"{stack}.{i}", size, stack=stack) for i, size in enumerate(towers)]
    return BlockGraph(
        blocks=(
            text.blocks[0],
            *tower,
            block("model.visual.merger", merger),
            *text.blocks[1:],
        ),
        embedding=text.embedding,
        head=text.head,
        towers=(stack,),
    )


def encoder_decoder_graph(encoder: list[Block], decoder: list[Block], *, shared: int = 5):
    """Two stacks with a norm after each, and an embedding that the head is tied to."""
    blocks = (
        block("shared", shared),
        *(replace(each, name=f"encoder.{i}", stack="encoder") for i, each in enumerate(encoder)),
        block("encoder.norm", 1),
        *(replace(each, name=f"decoder.{i}", stack="decoder") for i, each in enumerate(decoder)),
        block("decoder.norm", 1),
        block("lm_head", 0),
    )
    return BlockGraph(
        blocks=blocks, tied=(("shared", "lm_head"),), embedding="shared", head="lm_head"
    )


def machine(*budgets: int, reserve: int = 0, main: int = 0, tiers=()) -> Machine:
    """Cards of these budgets; capacity is the budget and the reserve."""
    cards = tuple(
        Card(
            device=f"cuda:{index}",
            name=str(budget),
            capacity_bytes=budget + reserve,
            reserve_bytes=reserve,
        )
        for index, budget in enumerate(budgets)
    )
    return Machine(cards=cards, main_device=f"cuda:{main}", tiers=tuple(tiers))


def cpu(capacity_bytes: int | None = None) -> OffloadTier:
    return OffloadTier(device="cpu", capacity_bytes=capacity_bytes)


CACHES = st.sampled_from(
    [
        (),
        (CacheGrowth(bytes_per_token=1),),
        (CacheGrowth(bytes_per_token=2, window_tokens=3),),
        (CacheGrowth(constant_bytes=2),),
        (CacheGrowth(bytes_per_token=1), CacheGrowth(bytes_per_token=1, window_tokens=2)),
    ]
)


GROWTHS = st.sampled_from(
    [
        None,
        None,
        ActivationGrowth(samples=((1, 1), (8, 4))),
        ActivationGrowth(samples=((1, 1), (2, 2), (8, 20))),
    ]
)
"""Nothing, what grows slowly, and what grows with the square of the tokens."""


@st.composite
def graphs(draw, *, max_layers: int = 5):
    """A chain, a chain with a tower, or an encoder and a decoder."""
    num_layers = draw(st.integers(1, max_layers))
    layers = [
        replace(layer(i, draw(SIZES), draw(CACHES)), activation=draw(GROWTHS))
        for i in range(num_layers)
    ]
    kind = draw(st.sampled_from(["text", "vision", "encoder and decoder"]))
    if kind == "text":
        graph = text_graph(layers, embed=draw(SIZES), head=draw(SIZES), tied=draw(st.booleans()))
    elif kind == "vision":
        graph = vision_graph(layers, draw(st.lists(SIZES, min_size=1, max_size=3)))
    else:
        half = num_layers // 2
        graph = encoder_decoder_graph(layers[:half], layers[half:], shared=draw(SIZES))
    return replace(graph, between=draw(GROWTHS))


@st.composite
def cases(draw, *, max_layers: int = 5):
    """(graph, machine, workload, objective, pins, default_pins) of any kind."""
    graph = draw(graphs(max_layers=max_layers))
    budgets = draw(st.lists(st.sampled_from([10, 20, 20, 33, 60]), min_size=1, max_size=4))
    tiers = draw(st.sampled_from([(), (), (cpu(),), (cpu(12),)]))
    main = draw(st.integers(0, len(budgets) - 1))
    pinned = st.sampled_from([each.name for each in graph.blocks])
    pins = draw(st.dictionaries(pinned, st.integers(0, len(budgets) - 1).map(str), max_size=1))
    return (
        graph,
        machine(*budgets, reserve=draw(st.sampled_from([0, 4])), main=main, tiers=tiers),
        Workload(context=draw(st.integers(1, 8)), batch=draw(st.integers(1, 2))),
        draw(st.sampled_from(["balance", "context", "fewest"])),
        pins,
        draw(st.booleans()),
    )


def num_new_slots(problem: Problem, assignment: Sequence[int]) -> int:
    """Slots that are used only because of the items."""
    return sum(not problem.slots[slot].in_use for slot in set(assignment))


def best_in_stages(problem: Problem) -> Assignment | None:
    """The best contiguous assignment of all; None when there is none."""
    contiguous = filter(is_contiguous, exhaustive.assignments(problem))
    return min(contiguous, key=lambda each: exhaustive.cost(problem, each), default=None)
