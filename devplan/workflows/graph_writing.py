"""The graph as a file: ``dot`` for Graphviz, ``json``, ``mmd`` for Mermaid, ``svg``."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import networkx

from devplan.core import InputError, nearest
from devplan.io import LONGEST_IN_JSON, json_text, visible
from devplan.workflows.graph_labels import CROSSING, device_colours, edge_lines, node_lines

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
