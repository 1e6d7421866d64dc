"""A map for 24 + 12 on a machine that has 12 + 24: the same map with its cards renumbered.

Only where it was asked for.  Everything that names a card follows: entries, main device,
prediction, pins, links, routes, and the sentences that mention one.  What was computed from the
sizes of the planned cards (share, bound, most tokens) is computed again where the loads say it, and
is left out where only the planner could: a note says which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import replace

from devplan.core import (
    OFFLOAD_DEVICES,
    Card,
    Certificate,
    DeviceMapFile,
    DeviceMemory,
    Environment,
    FoundCard,
    InputError,
    Lock,
    Machine,
    Verification,
    format_bytes,
    main_device_notes,
)
from devplan.environment.command import renewal_command
from devplan.environment.needs import Need, assignment, is_same_kind, needs_of

Rename = Callable[[str], str]
_DEVICE = re.compile(r"\bcuda:\d+\b")


def remapped(map_file: DeviceMapFile, environment: Environment) -> DeviceMapFile:
    """The map on the cards that are here, each with room for what it gets.

    Returns
    -------
    DeviceMapFile
        The map itself where its cards have their numbers already.

    Raises
    ------
    InputError
        When the cards here have no room for the map's, with the numbers and the command that
        plans for them.
    """
    needs = needs_of(map_file)
    found = assignment(needs, environment.cards)
    if found is None:
        raise InputError(_impossible(map_file, needs, environment))
    if all(old == new for old, new in found.items()):
        return map_file
    return _renamed(map_file, {old: environment.card(new) for old, new in found.items()})


def _impossible(map_file: DeviceMapFile, needs: tuple[Need, ...], environment: Environment) -> str:
    wanted = ", ".join(f"{format_bytes(n.whole_bytes)} ({n.device})" for n in needs)
    rooms = ", ".join(
        f"{format_bytes(card.room_bytes)} ({card.device})" for card in environment.cards
    )
    has = rooms or "no GPU that torch can use"
    return (
        f"the map needs GPUs with {wanted}, reserve included, and this machine has {has}: no order "
        "of its GPUs can hold the map; "
        f"plan for them: {renewal_command(map_file, environment)}"
    )


def _renamed(map_file: DeviceMapFile, cards: Mapping[str, FoundCard]) -> DeviceMapFile:
    devices = {old: card.device for old, card in cards.items()}

    def rename(device: str) -> str:
        return devices.get(device, device)

    def rename_in(text: str) -> str:
        return _DEVICE.sub(lambda match: rename(match[0]), text)

    machine = _machine(map_file.machine, cards, rename)
    loads = tuple(
        _load(load, cards[load.device]) for load in map_file.loads if load.device in cards
    )
    kept = all(
        card.capacity_bytes == map_file.machine.card(old).capacity_bytes
        for old, card in cards.items()
    )
    told = main_device_notes(map_file.device_map.values(), map_file.machine)
    device_map = {entry: rename(device) for entry, device in map_file.device_map.items()}
    same_kinds = all(
        is_same_kind(map_file.machine.card(old).name, card) for old, card in cards.items()
    )
    return replace(
        map_file,
        device_map=device_map,
        machine=machine,
        loads=loads,
        certificate=_certificate(map_file, loads, rename, kept=kept),
        pins=tuple(replace(pin, device=rename(pin.device)) for pin in map_file.pins),
        relaxed=tuple(replace(each, reason=rename_in(each.reason)) for each in map_file.relaxed),
        transfers=tuple(_ends(each, rename) for each in map_file.transfers),
        shared_copies=tuple(_ends(each, rename) for each in map_file.shared_copies),
        traffic=map_file.traffic
        and replace(
            map_file.traffic, routes=tuple(_ends(r, rename) for r in map_file.traffic.routes)
        ),
        timing=_timing(map_file, rename) if same_kinds else None,
        constraints=tuple(
            replace(each, change=rename_in(each.change), finding=rename_in(each.finding))
            for each in map_file.constraints
        ),
        verification=_verification(map_file.verification, cards, rename),
        environment=_lock(map_file.environment, cards),
        notes=(
            *(rename_in(note) for note in map_file.notes if note not in told),
            *main_device_notes(device_map.values(), machine),
            _note(map_file, cards, kept=kept),
        ),
    )


def _machine(machine: Machine, cards: Mapping[str, FoundCard], rename: Rename) -> Machine:
    """The cards that are used, in their order; links go with the cards that they join."""
    here = tuple(
        Card(
            device=cards[card.device].device,
            name=cards[card.device].name,
            capacity_bytes=cards[card.device].capacity_bytes,
            reserve_bytes=card.reserve_bytes,
        )
        for card in machine.cards
        if card.device in cards
    )
    gone = {card.device for card in machine.cards} - set(cards)
    links = tuple(
        _ends(link, rename) for link in machine.links if not gone & {link.source, link.target}
    )
    return replace(machine, cards=here, main_device=rename(machine.main_device), links=links)


def _load(load: DeviceMemory, card: FoundCard) -> DeviceMemory:
    return replace(load, device=card.device, capacity_bytes=card.capacity_bytes)


def _ends(item, rename: Rename):
    """A link, transfer or route between the cards under their new numbers."""
    return replace(item, source=rename(item.source), target=rename(item.target))


def _certificate(
    map_file: DeviceMapFile, loads: tuple[DeviceMemory, ...], rename: Rename, *, kept: bool
) -> Certificate:
    """The same where the cards have the planned sizes; else what the loads alone can prove."""
    old = map_file.certificate
    first_full = rename(old.first_full) if old.first_full else None
    if kept:
        return replace(old, first_full=first_full)
    budgets = sum(load.capacity_bytes - load.reserve_bytes for load in loads)
    bottleneck = max(load.share for load in loads)
    return replace(
        old,
        bottleneck=bottleneck,
        # [bound] no placement is more even than all loads over all budgets.
        lower_bound=min(sum(load.load_bytes for load in loads) / budgets, bottleneck),
        optimal_within="",
        most_tokens=None if old.most_tokens is None else _tokens(map_file, loads),
        most_tokens_bound=None,
        first_full=None,
    )


def _tokens(map_file: DeviceMapFile, loads: tuple[DeviceMemory, ...]) -> int:
    """Tokens that certainly fit: as before where no card is smaller, else those of the workload."""
    planned = [load for load in map_file.loads if load.device in _used(map_file)]
    smaller = any(
        here.capacity_bytes < before.capacity_bytes
        for before, here in zip(planned, loads, strict=True)
    )
    return map_file.workload.tokens if smaller else map_file.certificate.most_tokens


def _used(map_file: DeviceMapFile) -> set[str]:
    return {need.device for need in needs_of(map_file)}


def _timing(map_file: DeviceMapFile, rename: Rename):
    timing = map_file.timing
    if timing is None:
        return None
    cards = tuple(replace(card, device=rename(card.device)) for card in timing.cards)
    return replace(timing, cards=cards)


def _verification(
    verification: Verification, known: Container[str], rename: Rename
) -> Verification:
    peaks = {
        rename(device): peak
        for device, peak in verification.peak_bytes.items()
        if device in known or device in OFFLOAD_DEVICES
    }
    return replace(verification, peak_bytes=peaks)


def _lock(lock: Lock | None, cards: Mapping[str, FoundCard]) -> Lock | None:
    """The lock goes with its cards, and is dropped where a card is another one."""
    if lock is None:
        return None
    same = [card for card in lock.cards if card.device in cards]
    if any(card.uuid is None or card.uuid != cards[card.device].uuid for card in same):
        return None
    return replace(
        lock, cards=tuple(replace(card, device=cards[card.device].device) for card in same)
    )


def _note(map_file: DeviceMapFile, cards: Mapping[str, FoundCard], *, kept: bool) -> str:
    moves = ", ".join(
        f"{old} ({map_file.machine.card(old).name}) is {card.device} ({card.name})"
        for old, card in cards.items()
    )
    if kept:
        return f"remapped by capacity: {moves}"
    return (
        f"remapped by capacity: {moves}; the sizes are not those planned for, so that the lower "
        "bound is only that of all loads over all GPUs, and the most tokens are those that "
        "certainly fit"
    )
