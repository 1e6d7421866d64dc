"""The catalogue of links: how fast bytes get from one card to another, and how soon.

A link is given for one direction, as copies are.  Makers give NVLink for both directions together
and PCIe as a transfer rate of one lane in one: `LinkKind.bytes_per_s` has both brought to bytes a
second in one direction, times the share that copies were seen to reach.  A copy takes

    latency + bytes / bytes_per_s

Facts and sources are in ``links.yaml``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parent / "links.yaml"
_GIGA = 10**9
_BITS = 8

HOST = " through the host"


@dataclass(frozen=True, kw_only=True)
class LinkKind:
    """A kind of link, as fast as copies were seen to be."""

    name: str
    """``PCIe 4.0 x16 through the host``."""
    bytes_per_s: int
    """In one direction."""
    latency_s: float
    """Of the smallest copy."""


def pcie_generations() -> tuple[int, ...]:
    """The generations of PCIe that are known."""
    return tuple(_facts()["pcie"])


def nvlink_generations() -> tuple[int, ...]:
    """The generations of NVLink that are known."""
    return tuple(_facts()["nvlink"])


def pcie_peer(generation: int, lanes: int) -> LinkKind:
    """Cards that copy to each other over PCIe."""
    return _reached(_pcie_name(generation, lanes), _pcie_bytes_per_s(generation, lanes), "peer")


def pcie_host(generation: int, lanes: int) -> LinkKind:
    """Cards that copy through the host's memory, as GeForce cards do."""
    name = _pcie_name(generation, lanes) + HOST
    return _reached(name, _pcie_bytes_per_s(generation, lanes), "host")


def pcie_memory(generation: int, lanes: int) -> LinkKind:
    """A card and the host's own memory."""
    return _reached(_pcie_name(generation, lanes), _pcie_bytes_per_s(generation, lanes), "memory")


def nvlink_gb_s(generation: int) -> float:
    """All NVLinks of one GPU of a generation, both directions together."""
    return _facts()["nvlink"][generation]


def nvlink_of(both_directions_gb_s: float, name: str = "NVLink") -> LinkKind:
    """NVLinks of that many GB/s, both directions together."""
    return _reached(name, both_directions_gb_s * _GIGA / 2, "nvlink")


def stated(bytes_per_s: int) -> LinkKind:
    """A link of a bandwidth that the user knows, in one direction and as copies reach it."""
    name = f"{bytes_per_s / _GIGA:g} GB/s"
    return LinkKind(name=name, bytes_per_s=bytes_per_s, latency_s=_latency_s("peer"))


def _pcie_name(generation: int, lanes: int) -> str:
    return f"PCIe {generation}.0 x{lanes}"


def _pcie_bytes_per_s(generation: int, lanes: int) -> float:
    """Of the line, in one direction."""
    facts = _facts()["pcie"][generation]
    data, sent = facts["code"]
    return facts["gt_s"] * _GIGA * data / sent / _BITS * lanes


def _reached(name: str, line_bytes_per_s: float, way: str) -> LinkKind:
    share = _facts()["reached"][way]["share"]
    return LinkKind(
        name=name, bytes_per_s=round(share * line_bytes_per_s), latency_s=_latency_s(way)
    )


def _latency_s(way: str) -> float:
    return _facts()["reached"][way]["latency_us"] / 10**6


@cache
def _facts() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))
