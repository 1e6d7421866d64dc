"""What the drawings say: lines of text of nodes and edges, and the colours of devices."""

from __future__ import annotations

from typing import Any

import networkx

from devplan.core import format_bytes
from devplan.io import shown, visible

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
