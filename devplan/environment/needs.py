"""What a map needs of each of its cards, and which cards of a machine can give it.

A card of the map **needs** its load (weights, buffers, cache, room for offloaded blocks) and its
activations at least, and its reserve on top.  An **assignment** gives every card of the map a card
of the machine with room for all of it.  Whether there is one is decided by comparing both sides
sorted by size, since a card that is large enough for one need is large enough for every smaller
one.  Among the assignments the one is taken in which pairs are alike: first the very same card (by
UUID), then one of the same kind, then one of about the same size, then one of the same number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from devplan.core import OFFLOAD_DEVICES, Card, DeviceMapFile, FoundCard
from devplan.machine import gpu_of

_ALIKE_SHARE = 0.1
"""Sizes that differ by less are about the same: a card that is sold with 24 GB has 23.5 GiB."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """What the map puts on one of its cards."""

    device: str
    name: str
    """Of the card that was planned for."""
    planned_bytes: int
    """Capacity of that card."""
    least_bytes: int
    """Load and activations: with less it cannot run."""
    reserve_bytes: int
    uuid: str | None = None
    """Of the card that the map was locked to."""

    @property
    def whole_bytes(self) -> int:
        """With the reserve."""
        return self.least_bytes + self.reserve_bytes


def needs_of(map_file: DeviceMapFile) -> tuple[Need, ...]:
    """What the map needs, for every card that it uses, in the order of its cards."""
    loads = {load.device: load for load in map_file.loads}
    used = {*map_file.device_map.values(), map_file.machine.main_device} - {*OFFLOAD_DEVICES}
    needs = []
    for card in map_file.machine.cards:
        if card.device not in used:
            continue
        load = loads.get(card.device)
        locked = map_file.environment.card(card.device) if map_file.environment else None
        needs.append(
            Need(
                device=card.device,
                name=card.name,
                planned_bytes=card.capacity_bytes,
                least_bytes=load.load_bytes + load.activation_bytes if load else 0,
                reserve_bytes=card.reserve_bytes,
                uuid=locked.uuid if locked else None,
            )
        )
    return tuple(needs)


def assignment(needs: Sequence[Need], cards: Sequence[FoundCard]) -> Mapping[str, str] | None:
    """Device of the map -> device of the machine, with room for all; None where there is none."""
    if not _suffice(needs, cards):
        return None
    pairs = sorted(
        ((need, card) for need in needs for card in cards), key=lambda pair: _unlike(*pair)
    )
    found: dict[str, str] = {}
    open_needs, open_cards = list(needs), list(cards)
    for need, card in pairs:
        if need not in open_needs or card not in open_cards or not _fits(need, card):
            continue
        rest = [n for n in open_needs if n is not need], [c for c in open_cards if c is not card]
        # [exact] a pair that leaves no assignment for the rest now leaves none later either.
        if _suffice(*rest):
            found[need.device] = card.device
            open_needs, open_cards = rest
    return {need.device: found[need.device] for need in needs}


def _fits(need: Need, card: FoundCard) -> bool:
    return need.whole_bytes <= card.room_bytes


def _suffice(needs: Iterable[Need], cards: Iterable[FoundCard]) -> bool:
    """Whether the largest cards hold the largest needs, one by one."""
    wanted = sorted((need.whole_bytes for need in needs), reverse=True)
    rooms = sorted((card.room_bytes for card in cards), reverse=True)
    return len(wanted) <= len(rooms) and all(w <= r for w, r in zip(wanted, rooms, strict=False))


def _unlike(need: Need, card: FoundCard) -> tuple[bool, bool, int, bool, str, str]:
    """The less alike, the larger; equal for no two pairs."""
    off = abs(card.capacity_bytes - need.planned_bytes) / max(need.planned_bytes, 1)
    return (
        need.uuid is None or need.uuid != card.uuid,
        not is_same_kind(need.name, card),
        int(off / _ALIKE_SHARE),
        need.device != card.device,
        _by_number(need.device),
        _by_number(card.device),
    )


def is_same_kind(name: str, card: FoundCard) -> bool:
    """Whether a name of a map, as the driver or the catalogue has it, is that of a card here."""
    if name.lower() == card.name.lower():
        return True
    planned, here = (gpu_of(_named(each)) for each in (name, card.name))
    return planned is not None and planned == here


def _named(name: str) -> Card:
    return Card(device="cuda:0", name=name, capacity_bytes=0, reserve_bytes=0)


def _by_number(device: str) -> str:
    """cuda:10 after cuda:9."""
    kind, _, index = device.partition(":")
    return f"{kind}:{index:0>4}"
