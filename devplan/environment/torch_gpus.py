"""The cards as torch numbers them, joined with what the driver says of the same cards.

Only public functions of ``torch.cuda`` are asked.  What is free comes from the driver where it can
be asked: ``torch.cuda.mem_get_info`` makes a CUDA context on every card, which itself takes some
hundred MiB.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devplan.core import DriverCard, FoundCard


@dataclass(frozen=True, kw_only=True)
class TorchFacts:
    """What torch was built with, and what it sees."""

    cuda: str | None = None
    hip: str | None = None
    archs: tuple[str, ...] = ()
    cards: tuple[FoundCard, ...] = ()
    peers: Mapping[tuple[str, str], bool] | None = None
    notes: tuple[str, ...] = ()


def read_torch(driver_cards: Sequence[DriverCard]) -> TorchFacts:
    """What torch sees of this machine."""
    import torch

    built = TorchFacts(cuda=torch.version.cuda, hip=torch.version.hip)
    with warnings.catch_warnings(record=True) as warned:
        # torch warns, once, of a driver that is too old, and then says that there is no card.
        warnings.simplefilter("always")
        number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    notes = tuple(f"torch: {_first_line(str(each.message))}" for each in warned)
    if not number:
        return TorchFacts(cuda=built.cuda, hip=built.hip, notes=notes)
    by_uuid = {card.uuid: card for card in driver_cards}
    cards = tuple(_card(torch, index, by_uuid) for index in range(number))
    return TorchFacts(
        cuda=built.cuda,
        hip=built.hip,
        archs=tuple(torch.cuda.get_arch_list()),
        cards=cards,
        peers=_peers(torch, number),
        notes=notes,
    )


def _card(torch: Any, index: int, by_uuid: Mapping[str, DriverCard]) -> FoundCard:
    properties = torch.cuda.get_device_properties(index)
    uuid = _uuid(properties)
    driver = by_uuid.get(uuid) if uuid else None
    if driver is None:
        driver = _only_one_of_that_name(properties.name, by_uuid)
    return FoundCard(
        device=f"cuda:{index}",
        name=properties.name,
        capacity_bytes=properties.total_memory,
        free_bytes=driver.free_bytes if driver else _free(torch, index),
        own_bytes=torch.cuda.memory_reserved(index),
        compute_capability=(properties.major, properties.minor),
        uuid=driver.uuid if driver else uuid,
        pci_bus_id=driver.pci_bus_id if driver else _bus_id(properties),
        driver_index=driver.index if driver else None,
    )


def _uuid(properties: Any) -> str | None:
    """torch has it since 2.5, without the driver's prefix."""
    text = str(getattr(properties, "uuid", "") or "")
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text):
        return f"GPU-{text}"
    return text or None


def _bus_id(properties: Any) -> str | None:
    bus = getattr(properties, "pci_bus_id", None)
    if bus is None:
        return None
    domain, slot = getattr(properties, "pci_domain_id", 0), getattr(properties, "pci_device_id", 0)
    return f"{domain:08X}:{bus:02X}:{slot:02X}.0"


def _only_one_of_that_name(name: str, by_uuid: Mapping[str, DriverCard]) -> DriverCard | None:
    """Older torch knows no UUID; a card that is the only one of its kind needs none."""
    same = [card for card in by_uuid.values() if card.name == name]
    return same[0] if len(same) == 1 else None


def _free(torch: Any, index: int) -> int | None:
    try:
        return torch.cuda.mem_get_info(index)[0]
    except RuntimeError:  # a card in exclusive mode that another process holds
        return None


def _peers(torch: Any, number: int) -> dict[tuple[str, str], bool]:
    return {
        (f"cuda:{a}", f"cuda:{b}"): torch.cuda.can_device_access_peer(a, b)
        for a in range(number)
        for b in range(number)
        if a != b
    }


def _first_line(text: str) -> str:
    return " ".join(text.split())[:300]
