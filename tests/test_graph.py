"""The graph of blocks: order, contraction and its inverse."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from devplan.core.types import Block, BlockGraph, CacheGrowth
from devplan.profile.graph import contract, expand, to_networkx

names = st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1)


@st.composite
def graphs(draw) -> BlockGraph:
    chosen = draw(names)
    size = st.integers(0, 1000)
    blocks = tuple(
        Block(
            name=name,
            class_name="Layer",
            weight_bytes=draw(size),
            buffer_bytes=draw(size),
            cache=(CacheGrowth(bytes_per_token=draw(size)),) if draw(st.booleans()) else (),
            input_bytes_per_token=draw(size),
        )
        for name in chosen
    )
    tied = draw(st.lists(st.lists(st.sampled_from(chosen), min_size=2, max_size=3), max_size=2))
    return BlockGraph(
        blocks=blocks,
        tied=tuple(map(tuple, tied)),
        embedding=chosen[0],
        head=chosen[-1],
        unexecuted=tuple(name for name in chosen if draw(st.booleans())),
    )


@st.composite
def grouped(draw):
    graph = draw(graphs())
    members = st.lists(st.sampled_from(graph.names), min_size=1, max_size=3)
    return graph, draw(st.lists(members, max_size=3))


@settings(deadline=None)
@given(grouped())
def test_contracting_keeps_every_byte(case):
    graph, groups = case
    merged = contract(graph, groups)
    for tokens in (0, 7, 4096):
        assert sum(block.load_bytes(tokens, 2) for block in merged.blocks) == sum(
            block.load_bytes(tokens, 2) for block in graph.blocks
        )


@settings(deadline=None)
@given(grouped(), st.data())
def test_expanding_undoes_contracting(case, data):
    graph, groups = case
    merged = contract(graph, groups)
    devices = st.sampled_from(["cuda:0", "cuda:1"])
    placement = {name: data.draw(devices) for name in merged.names}
    expanded = expand(graph, groups, placement)
    assert list(expanded) == list(graph.names)
    assert all(expanded[name] == placement[name] for name in merged.names)
    for group in groups:
        assert len({expanded[name] for name in group}) == 1


@settings(deadline=None)
@given(grouped())
def test_contracting_keeps_order_and_roles(case):
    graph, groups = case
    merged = contract(graph, groups)
    kept = [name for name in graph.names if name in set(merged.names)]
    assert list(merged.names) == kept
    assert merged.embedding in merged.names and merged.head in merged.names
    assert set(merged.unexecuted) <= set(merged.names)
    assert all(set(names) <= set(merged.names) for names in merged.tied)
    assert contract(graph, []).blocks == graph.blocks


@settings(deadline=None)
@given(graphs())
def test_as_networkx(graph):
    drawn = to_networkx(graph)
    executed = [name for name in graph.names if name not in graph.unexecuted]
    assert list(drawn) == list(graph.names)
    assert list(drawn.edges) == list(itertools.pairwise(executed))
    for _, target, bytes_per_token in drawn.edges(data="bytes_per_token"):
        assert bytes_per_token == graph.block(target).input_bytes_per_token
