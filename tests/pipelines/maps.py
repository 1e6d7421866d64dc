"""Maps of tiny pipelines for made-up cards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from devplan.core.types import OffloadTier
from devplan.mapfile.read import read_map
from devplan.mapfile.write import write_map
from devplan.planning.components import Components
from devplan.planning.instance import PlanRequest
from devplan.workflows.suggesting import suggest_studied

STAND_INS = {"cuda:0": "cpu", "cuda:1": "cpu"}


def cards(*sizes: int, tiers: tuple[OffloadTier, ...] = ()):
    from devplan.machine.parse import parse_gpus

    machine = parse_gpus(f"{len(sizes)}x1GiB", reserve="0")
    own = tuple(
        replace(card, capacity_bytes=size) for card, size in zip(machine.cards, sizes, strict=True)
    )
    return replace(machine, cards=own, tiers=tiers)


def needs(studied) -> Components:
    request = PlanRequest(machine=cards(2**40), workload=studied.workload)
    return Components(graph=studied.graph, request=request)


def written(suggestion, folder: Path) -> Path:
    assert suggestion.map_file is not None, suggestion.result
    assert suggestion.map_file.verification.status == "clean"
    path = folder / "map.yaml"
    write_map(suggestion.map_file, path, force=True)
    assert read_map(path) == suggestion.map_file
    return path


def split_map(studied, folder: Path) -> Path:
    """A clean map over two cards, neither of which holds the whole transformer."""
    needed = needs(studied)
    active = max(needed.active_bytes.values())
    transformer = needed.load_bytes["transformer"]
    rest = sum(needed.load_bytes.values()) - transformer
    size = active + max(rest, transformer * 3 // 4)
    return written(suggest_studied(studied, cards(size, size), pins={}), folder)


def offloaded_map(studied, tier: str, folder: Path) -> Path:
    """A clean map of one card that holds four fifths, the rest on a tier."""
    needed = needs(studied)
    size = max(needed.active_bytes.values()) + sum(needed.load_bytes.values()) * 4 // 5
    machine = cards(size, tiers=(OffloadTier(device=tier, capacity_bytes=None),))
    return written(suggest_studied(studied, machine, pins={}), folder)


def plain(folder: Path):
    """The pipeline as diffusers loads it."""
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(folder)
