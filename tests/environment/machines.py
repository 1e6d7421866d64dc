"""Environments of made-up machines, and the map of a real one: values, nothing is patched."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from devplan.core.environment import DriverCard, Environment, FoundCard
from devplan.core.types import DeviceMapFile
from devplan.core.units import GIB
from devplan.mapfile.read import read_map

ROOT = Path(__file__).parents[2]
MAP_PATH = ROOT / "maps" / "qwen2.5-vl-7b-instruct__24+12gib__b1-c32768.yaml"
VERSIONS = {
    "devplan": "0.1.0",
    "torch": "2.13.0+cu130",
    "transformers": "5.23.0",
    "accelerate": "1.15.0",
    "safetensors": "0.8.0",
}


@cache
def example_map() -> DeviceMapFile:
    """Qwen2.5-VL-7B on 24 + 12 GiB: 17.09 and 8.83 GiB, each with 1 GiB of reserve."""
    return read_map(MAP_PATH)


def card(index: int, size_gib: float, name: str | None = None, **fields) -> FoundCard:
    """A card of a size; ``taken_gib`` is held by somebody else."""
    capacity = int(size_gib * GIB)
    if "compute_capability" in fields:
        fields["compute_capability"] = tuple(fields["compute_capability"])
    taken = int(fields.pop("taken_gib", 0) * GIB)
    return FoundCard(
        device=f"cuda:{index}",
        name=name or f"{size_gib:g}GiB",
        capacity_bytes=capacity,
        free_bytes=capacity - taken - fields.get("own_bytes", 0),
        uuid=fields.pop("uuid", f"GPU-{index}"),
        driver_index=fields.pop("driver_index", index),
        **fields,
    )


def machine(*cards: FoundCard, **fields) -> Environment:
    """A machine with these cards, its driver and libraries in order."""
    given = {
        "cards": cards,
        "driver_cards": tuple(map(driver_card, cards)),
        "driver": "580.65.06" if cards else None,
        "driver_cuda": (13, 0) if cards else None,
        "torch_cuda": "13.0",
        "torch_archs": ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"),
        "versions": VERSIONS,
        "python": "3.11.7",
        "memory_bytes": 64 * GIB,
        "offload_folder": "offload",
        "disk_bytes": 500 * GIB,
    }
    return Environment(**{**given, **fields})


def driver_card(card: FoundCard) -> DriverCard:
    """The same card as the driver has it."""
    return DriverCard(
        index=card.driver_index if card.driver_index is not None else 0,
        name=card.name,
        uuid=card.uuid or "",
        pci_bus_id="",
        total_bytes=card.capacity_bytes,
        free_bytes=card.free_bytes or 0,
        compute_capability=card.compute_capability,
    )
