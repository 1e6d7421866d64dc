"""The graph as a file: ``dot`` for Graphviz, ``json``, ``mmd`` for Mermaid, ``svg``."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import networkx

from devplan.core import InputError, format_bytes, nearest, parent
from devplan.io import LONGEST_IN_JSON, json_text, shown, visible

FORMATS = ("dot", "json", "mmd", "svg")
DRAWING_S = 60
"""Graphviz draws the 129 blocks of a model of 126 layers in seconds; longer means it hangs."""


def known_graph_format(path: str) -> str:
    """The format that a file's name asks for.

    Raises
    ------
    InputError
        When it asks for none of `FORMATS`.
    """
    suffix = Path(path).suffix.removeprefix(".").lower()
    if suffix not in FORMATS:
        raise InputError(
            f"{path}: a graph is written to .{', .'.join(FORMATS)}{nearest(suffix, FORMATS)}"
        )
    if suffix == "svg":
        _graphviz(path)
    return suffix


def graph_text(graph: networkx.DiGraph, form: str) -> str:
    """The graph in one of `FORMATS`, with a line break at its end.

    Raises
    ------
    InputError
        For svg without Graphviz.
    """
    writers = {"dot": _dot, "json": _json, "mmd": _mermaid, "svg": _svg}
    return writers[form](graph)


def _json(graph: networkx.DiGraph) -> str:
    """networkx's node-link form, written out here: its keyword for edges changed in 3.4."""
    content = {
        "directed": True,
        "multigraph": False,
        "graph": graph.graph,
        "nodes": [{"id": name, **node} for name, node in graph.nodes(data=True)],
        "edges": [
            {"source": source, "target": target, **edge}
            for source, target, edge in graph.edges(data=True)
        ],
    }
    return json_text(content)


# ---------------------------------------------------------------------------------- Graphviz


def _dot(graph: networkx.DiGraph) -> str:
    colours = device_colours(graph)
    lines = [
        f"digraph {_quoted(visible(graph.graph['model']))} {{",
        '  node [shape=box, style="rounded,filled", fontname="sans-serif"];',
        '  edge [fontname="sans-serif", fontsize=10];',
    ]
    for name, node in graph.nodes(data=True):
        style = "" if node["ran"] or node["kind"] == "tensor" else ', style="filled,dashed"'
        label = _quoted("\n".join(node_lines(name, node)))
        colour = colours[node["device"]]
        lines.append(f'  {_quoted(name)} [label={label}, fillcolor="{colour}"{style}];')
    for source, target, edge in graph.edges(data=True):
        label = _quoted("\n".join(edge_lines(edge)))
        red = f', color="{CROSSING}", fontcolor="{CROSSING}"' if edge["crosses"] else ""
        lines.append(f"  {_quoted(source)} -> {_quoted(target)} [label={label}{red}];")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    """A string of the dot language, where ``\\n`` is a line break within a label."""
    escaped = "\n".join(visible(line, LONGEST_IN_JSON) for line in text.split("\n"))
    escaped = escaped.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _graphviz(path: str) -> str:
    """Where Graphviz' ``dot`` is."""
    program = shutil.which("dot")
    if program is None:
        raise InputError(
            f"{path} needs Graphviz, whose dot is not on PATH: install graphviz, or write .dot "
            "or .mmd"
        )
    return program


def _svg(graph: networkx.DiGraph) -> str:
    program = _graphviz("svg")
    try:
        done = subprocess.run(
            [program, "-Tsvg"],
            input=_dot(graph).encode(),
            capture_output=True,
            timeout=DRAWING_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace")
        raise InputError(f"{program} drew no svg ({said.strip()}); write .dot or .mmd") from None
    return done.stdout.decode()


# ----------------------------------------------------------------------------------- Mermaid


def _mermaid(graph: networkx.DiGraph) -> str:
    """A flowchart; nodes are numbered, since names of modules may be words of Mermaid's."""
    colours = device_colours(graph)
    classes = {device: f"device{place}" for place, device in enumerate(colours)}
    number = {name: f"n{place}" for place, name in enumerate(graph.nodes)}
    lines = ["flowchart TD"]
    for name, node in graph.nodes(data=True):
        text = _mermaid_text(node_lines(name, node))
        lines.append(f"  {number[name]}[{text}]:::{classes[node['device']]}")
    crossing = []
    for place, (source, target, edge) in enumerate(graph.edges(data=True)):
        lines.append(f"  {number[source]} -->|{_mermaid_text(edge_lines(edge))}| {number[target]}")
        if edge["crosses"]:
            crossing.append(str(place))
    for device, colour in colours.items():
        lines.append(f"  classDef {classes[device]} fill:{colour},color:#000")
    if crossing:
        lines.append(f"  linkStyle {','.join(crossing)} stroke:{CROSSING},color:{CROSSING}")
    return "\n".join(lines) + "\n"


def _mermaid_text(lines: list[str]) -> str:
    """Quoted text; Mermaid writes a quotation mark as ``#quot;``."""
    return '"' + "<br/>".join(line.translate(_ENTITIES) for line in lines) + '"'


_ENTITIES = str.maketrans({sign: f"#{ord(sign)};" for sign in "#&<>`%"} | {'"': "#quot;"})
"""Signs that begin an entity, HTML, Markdown or a directive within a label."""


# ------------------------------------------------------------------------------------------- labels


COLOURS = ("#cfe3f7", "#d9efd3", "#fbe6c4", "#e5d9f2", "#d3eeee", "#f7d9e3", "#eeeacb", "#dfe3e8")
"""Light backgrounds for black text, in the order in which devices occur; the ninth is the first
again, since the device also stands in every node."""

CROSSING = "#d62728"
"""Red, and no background is: crossing edges must stand out."""


def device_colours(graph: networkx.DiGraph) -> dict[str, str]:
    """Device -> colour."""
    devices = dict.fromkeys(node["device"] for _, node in graph.nodes(data=True))
    return {device: COLOURS[place % len(COLOURS)] for place, device in enumerate(sorted(devices))}


def node_lines(name: str, node: dict[str, Any]) -> list[str]:
    """Name, then class and size, then devices."""
    name, node = visible(name), shown(node)
    if node["kind"] in ("inputs", "outputs"):
        return [name, node["device"]]
    layers = f"{len(node['blocks'])} x " if "blocks" in node else ""
    lies, runs = node["device"], node["runs_on"]
    lines = [name, f"{layers}{node['class_name']}, {format_bytes(node['bytes'])}"]
    lines.append(lies if lies == runs else f"{lies}, runs on {runs}")
    if node["kind"] == "block" and not node["ran"]:
        lines.append("not run")
    return lines


def edge_lines(edge: dict[str, Any]) -> list[str]:
    """Size, and copies where there are any."""
    lines = [format_bytes(edge["bytes"])]
    if edge["copies"]:
        lines.append(f"{edge['copies']} cop{'y' if edge['copies'] == 1 else 'ies'}")
    return lines


# ------------------------------------------------------------------------------------------- stages
#
# Layers on one device are drawn as one stage.  They follow one another in execution order, are of
# one stack and one class, and lie and run on one device.  Edges inside a stage disappear; edges of
# its layers from and to others are added up.


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
