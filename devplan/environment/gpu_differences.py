"""The cards of a map beside those that are here: missing, smaller, in use, of another kind, moved.

Each card of the map is compared with the one of its own number, since that is where the map would
put it.  Where that shows something, but the machine has cards for the map under other numbers, this
is said instead, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from devplan.core import (
    Card,
    DeviceMapFile,
    Difference,
    Environment,
    FoundCard,
    Severity,
    format_bytes,
    is_size,
)
from devplan.environment.command import suggest_command
from devplan.environment.needs import Need, assignment, is_same_kind, needs_of
from devplan.machine import capability_of

MISSING = "DP503"
SMALLER = "DP504"
IN_USE = "DP505"
OTHER_KIND = "DP506"
MOVED = "DP507"


def compare_cards(map_file: DeviceMapFile, environment: Environment) -> Iterator[Difference]:
    """What differs between the map's cards and the machine's."""
    needs = needs_of(map_file)
    if needs and not environment.cards:
        yield _no_cards(needs)
        return
    remake = f"plan for this machine: {suggest_command(map_file, environment)}"
    as_numbered = [d for need in needs for d in _of_card(need, environment, remake)]
    found = assignment(needs, environment.cards)
    if found is None or all(old == new for old, new in found.items()):
        yield from as_numbered
        return
    elsewhere = [
        difference
        for need in needs
        for difference in _beside(need, environment.card(found[need.device]), environment, remake)
    ]
    if _weight(elsewhere) < _weight(as_numbered):
        yield _moved(needs, found, environment, as_numbered, remake)
        yield from elsewhere  # what another order of the cards does not repair
    else:
        yield from as_numbered


def _no_cards(needs: Sequence[Need]) -> Difference:
    """A laptop: one sentence, and no plan for cards that are not there."""
    wanted = ", ".join(
        f"{format_bytes(need.least_bytes)} on {need.device} ({need.name})" for need in needs
    )
    return Difference(
        code=MISSING,
        severity=Severity.ERROR,
        subject="cards",
        message=f"torch sees no GPU here, and the map puts {wanted}",
        planned=", ".join(need.name for need in needs),
        present="none",
        remedy="load it on a machine with these cards; `devplan check MAP` proves it here as well",
    )


def _weight(differences: Sequence[Difference]) -> tuple[int, int]:
    """Errors, then warnings."""
    errors = sum(d.severity is Severity.ERROR for d in differences)
    return errors, sum(d.severity is Severity.WARNING for d in differences)


def _moved(
    needs: Sequence[Need],
    found: Mapping[str, str],
    environment: Environment,
    as_numbered: Sequence[Difference],
    remake: str,
) -> Difference:
    moves = [(need, environment.card(found[need.device])) for need in needs]
    words = ", ".join(
        f"{need.device} ({need.name}) is {card.device} here"
        for need, card in moves
        if need.device != card.device
    )
    why = next(
        d.message for d in sorted(as_numbered, key=lambda d: d.severity is not Severity.ERROR)
    )
    is_error = any(d.severity is Severity.ERROR for d in as_numbered)
    return Difference(
        code=MOVED,
        severity=Severity.ERROR if is_error else Severity.WARNING,
        subject="cards",
        message=f"the cards have other numbers here: {words}; as they are numbered now, {why}",
        planned=", ".join(f"{need.device} {need.name}" for need in needs),
        present=", ".join(f"{card.device} {card.name}" for card in environment.cards),
        remedy="remap it: devplan doctor MAP --remap FILE, or devplan.load(MAP, remap=True); or "
        + remake,
    )


def _of_card(need: Need, environment: Environment, remake: str) -> Iterator[Difference]:
    card = environment.card(need.device)
    if card is None:
        yield _missing(need, environment, remake)
    else:
        yield from _beside(need, card, environment, remake)


def _missing(need: Need, environment: Environment, remake: str) -> Difference:
    number = len(environment.cards)
    seen = ", ".join(f"{card.device} ({card.name})" for card in environment.cards)
    hidden = len(environment.driver_cards) - number
    hint = f"; the driver has {hidden} more that this process does not see" if hidden > 0 else ""
    return Difference(
        code=MISSING,
        severity=Severity.ERROR,
        subject=need.device,
        message=f"{need.device} ({need.name}) is not here: torch sees "
        f"{seen or 'no GPU'}{hint}; the map puts {format_bytes(need.least_bytes)} there",
        planned=need.name,
        remedy=remake,
    )


def _beside(
    need: Need, card: FoundCard, environment: Environment, remake: str
) -> Iterator[Difference]:
    """One card of the map beside the one that would take its place."""
    smaller = list(_smaller(need, card, remake))
    yield from smaller
    if not any(d.severity is Severity.ERROR for d in smaller):
        yield from _in_use(need, card, environment, remake)
    yield from _other_kind(need, card, remake)


def _smaller(need: Need, card: FoundCard, remake: str) -> Iterator[Difference]:
    less = need.planned_bytes - card.capacity_bytes
    if less <= 0:
        return
    parts = (
        f"{card.device} ({card.name}) has {format_bytes(card.capacity_bytes)}, "
        f"{format_bytes(less)} less than was planned for"
    )
    severity, what = _missing_room(need, card.capacity_bytes)
    yield Difference(
        code=SMALLER,
        severity=severity,
        subject=card.device,
        message=f"{parts}: {what}",
        planned=format_bytes(need.planned_bytes),
        present=format_bytes(card.capacity_bytes),
        remedy="" if severity is Severity.NOTE else remake,
    )


def _missing_room(need: Need, room_bytes: int) -> tuple[Severity, str]:
    """What becomes of a map's load in so much room."""
    load, reserve = format_bytes(need.least_bytes), format_bytes(need.reserve_bytes)
    if need.least_bytes > room_bytes:
        lacking = format_bytes(need.least_bytes - room_bytes)
        return Severity.ERROR, f"the map's {load} lack {lacking}"
    if need.whole_bytes > room_bytes:
        eaten = format_bytes(need.whole_bytes - room_bytes)
        return Severity.WARNING, f"the map's {load} take {eaten} from the reserve of {reserve}"
    left = format_bytes(room_bytes - need.whole_bytes)
    return Severity.NOTE, f"the map's {load} and its reserve of {reserve} fit, {left} are left"


def _in_use(
    need: Need, card: FoundCard, environment: Environment, remake: str
) -> Iterator[Difference]:
    if card.free_bytes is None or need.whole_bytes > card.capacity_bytes:
        return
    severity, what = _missing_room(need, card.room_bytes)
    if severity is Severity.NOTE:
        return
    yield Difference(
        code=IN_USE,
        severity=severity,
        subject=card.device,
        message=f"of the {format_bytes(card.capacity_bytes)} of {card.device} ({card.name}) only "
        f"{format_bytes(card.free_bytes)} are free, {_holders(card, environment)}: {what}",
        planned=format_bytes(need.whole_bytes),
        present=format_bytes(card.free_bytes),
        remedy=f"end what uses {card.device} (nvidia-smi shows it), or {remake}",
    )


def _holders(card: FoundCard, environment: Environment) -> str:
    """Who holds the rest: processes by name where the driver tells."""
    uses = [use for use in environment.uses if use.uuid == card.uuid and card.uuid is not None]
    words = [f"{use.name} ({use.pid}) holds {format_bytes(use.held_bytes)}" for use in uses]
    if not words and card.taken_bytes:
        words = [f"other processes hold {format_bytes(card.taken_bytes)}"]
    if card.own_bytes:
        words.append(f"this process holds {format_bytes(card.own_bytes)} already")
    return " and ".join(words)


def _other_kind(need: Need, card: FoundCard, remake: str) -> Iterator[Difference]:
    planned = Card(
        device=need.device, name=need.name, capacity_bytes=need.planned_bytes, reserve_bytes=0
    )
    capability = capability_of(planned)
    if is_same_kind(need.name, card):
        if need.uuid is not None and card.uuid is not None and need.uuid != card.uuid:
            yield _other_piece(need, card)
        return
    if is_size(need.name):
        return  # any card of that size was meant
    older = (
        capability is not None
        and card.compute_capability is not None
        and card.compute_capability < capability
    )
    worse = (
        f", and of an older architecture ({_dotted(card.compute_capability)} instead of "
        f"{_dotted(capability)}): kernels and dtypes may be missing"
        if older
        else ": times differ from those of the map"
    )
    yield Difference(
        code=OTHER_KIND,
        severity=Severity.WARNING,
        subject=card.device,
        message=f"{card.device} is a {card.name}, the map is for a {need.name}{worse}",
        planned=need.name,
        present=card.name,
        remedy=remake,
    )


def _other_piece(need: Need, card: FoundCard) -> Difference:
    return Difference(
        code=OTHER_KIND,
        severity=Severity.NOTE,
        subject=card.device,
        message=f"{card.device} is another {card.name} than the one that the map is locked to",
        planned=need.uuid,
        present=card.uuid,
    )


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
