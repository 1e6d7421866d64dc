"""Rows of layers drawn as one: what lies together on one device is one stage.

Layers follow one another in execution order, are of one stack and one class, and lie and run on
one device.  Edges inside a stage disappear; edges of its layers from and to others are added up.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import networkx

from devplan.core import parent


def contract_layers(graph: networkx.DiGraph) -> networkx.DiGraph:
    """A new graph with one node a stage; such nodes have ``blocks``, the names of their layers.

    Stages are named after their first and last layer: ``model.layers.0-15``.
    """
    stages = {name: members for members in _rows(graph) for name in (_stage_name(members),)}
    stage_of = {member: name for name, members in stages.items() for member in members}
    contracted = networkx.DiGraph(**graph.graph)
    for name, members in stages.items():
        contracted.add_node(name, **_stage(graph, members))
    for source, target, edge in graph.edges(data=True):
        one, other = stage_of[source], stage_of[target]
        if one == other:
            continue
        if contracted.has_edge(one, other):
            _add(contracted.edges[one, other], edge)
        else:
            contracted.add_edge(one, other, **{**edge, "arguments": list(edge["arguments"])})
    return contracted


def _rows(graph: networkx.DiGraph) -> Iterator[list[str]]:
    """Nodes in their order, those of one stage together."""
    for key, row in groupby(graph.nodes, key=lambda name: _likeness(graph, name)):
        members = list(row)
        yield from [members] if key[0] is not None else ([name] for name in members)


def _likeness(graph: networkx.DiGraph, name: str) -> tuple[Any, ...]:
    node = graph.nodes[name]
    return tuple(node[key] for key in ("stack", "class_name", "device", "runs_on", "ran"))


def _stage_name(members: list[str]) -> str:
    first, last = members[0], members[-1]
    if len(members) == 1:
        return first
    is_numbered = parent(first) == parent(last)
    return f"{first}-{last.rpartition('.')[2] if is_numbered else last}"


def _stage(graph: networkx.DiGraph, members: list[str]) -> dict[str, Any]:
    first = graph.nodes[members[0]]
    if len(members) == 1:
        return dict(first)
    num_bytes = sum(graph.nodes[name]["bytes"] for name in members)
    return {**first, "bytes": num_bytes, "blocks": list(members)}


def _add(total: dict[str, Any], edge: dict[str, Any]) -> None:
    for key in ("bytes", "tensors", "copies"):
        total[key] += edge[key]
    total["crosses"] |= edge["crosses"]
    total["arguments"] += [name for name in edge["arguments"] if name not in total["arguments"]]
