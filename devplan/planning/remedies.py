"""The smallest change of each kind that makes a case fit.

Every remedy that is named was tried: the case with that change was searched and something fits.
"Smallest" is by bisection over a quantity in which fitting is monotone (less context, fewer
sequences, less reserve, larger cards fit whenever more does); the search behind each trial is the
planner's own, with a smaller limit on packings, so that all remedies together take well under a
second.  Where only a packing fits, a longer search may find one at a little more context or batch.

Default pins are no remedy: they give way by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from devplan.core import CPU, GIB, MIB, BlockGraph, Card, Machine, OffloadTier, Remedy, format_bytes
from devplan.planning.bisection import largest
from devplan.planning.instance import Case
from devplan.planning.pins import default_pins, resolve_user_pins
from devplan.planning.search import find_offload, fits
from devplan.planning.units import contract

CARD_SIZES_GIB = (8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 141, 192)
"""Memory sizes in which GPUs are sold, as the makers' data sheets name them: consumer cards of
NVIDIA (8 to 32), workstation cards (48, 96), A100 and H100 (40, 80), H200 (141), AMD MI210 and
MI300X (64, 192)."""
MAX_STEPS = 2_000
"""Of a packing, in a trial; 2 to 4 ms."""


def remedies_for(
    case: Case, pins: Mapping[str, str], alternatives: Mapping[str, Callable[[], BlockGraph]]
) -> tuple[Remedy, ...]:
    """What would make the case fit, the cheapest kinds first."""
    changes = (
        *_less_context(case),
        *_less_batch(case),
        *_other_graphs(case, pins, alternatives),
        *_fewer_pins(case, pins),
        *_smaller_reserve(case),
        *_offload(case),
        *_one_more_card(case),
        *_a_larger_card(case),
    )
    return tuple(Remedy(change=change) for change in changes)


def _fits(case: Case) -> bool:
    return fits(case, max_steps=MAX_STEPS)


def _less_context(case: Case) -> Iterator[str]:
    asked = case.workload.context_tokens

    def fits_at(tokens: int) -> bool:
        return _fits(replace(case, workload=replace(case.workload, context_tokens=tokens)))

    most = largest(fits_at, low=1, high=asked) if asked > 1 else None
    if most is not None:
        yield f"--context {most} instead of {asked}"


def _less_batch(case: Case) -> Iterator[str]:
    asked = case.workload.batch

    def fits_at(batch: int) -> bool:
        return _fits(replace(case, workload=replace(case.workload, batch=batch)))

    most = largest(fits_at, low=1, high=asked) if asked > 1 else None
    if most is not None:
        yield f"--batch {most} instead of {asked}"


def _other_graphs(
    case: Case, pins: Mapping[str, str], alternatives: Mapping[str, Callable[[], BlockGraph]]
) -> Iterator[str]:
    for change, make_graph in alternatives.items():
        graph = make_graph()
        units = contract(graph)
        other = replace(
            case,
            graph=graph,
            units=units,
            user_pins=resolve_user_pins(pins, graph, units, case.machine).devices,
            defaults=default_pins(graph, units) if case.defaults else {},
        )
        if _fits(other):
            yield change


def _fewer_pins(case: Case, pins: Mapping[str, str]) -> Iterator[str]:
    def fits_with(kept: Mapping[str, str]) -> bool:
        user = resolve_user_pins(kept, case.graph, case.units, case.machine)
        return _fits(replace(case, user_pins=user.devices))

    if not pins or not fits_with({}):
        return
    alone = [name for name in pins if fits_with({n: d for n, d in pins.items() if n != name})]
    for name in alone:
        yield f"without --pin {name}={pins[name]}"
    if not alone:
        yield "without any --pin"


def _smaller_reserve(case: Case) -> Iterator[str]:
    asked = max(card.reserve_bytes for card in case.machine.cards)

    def capped(reserve_mib: int) -> Case:
        limit = reserve_mib * MIB
        cards = tuple(
            replace(card, reserve_bytes=min(card.reserve_bytes, limit))
            for card in case.machine.cards
        )
        return _with_cards(case, cards)

    if asked < MIB:
        return
    most = largest(lambda mib: _fits(capped(mib)), low=0, high=-(-asked // MIB))
    if most is not None:
        yield f"--reserve {most}MiB instead of {format_bytes(asked)}"


def _offload(case: Case) -> Iterator[str]:
    tiers = tuple(tier for tier in case.machine.tiers if tier.device != CPU)
    unbounded = (OffloadTier(device=CPU, capacity_bytes=None), *tiers)
    pose = find_offload(replace(case, machine=replace(case.machine, tiers=unbounded)))
    if pose is not None:
        on_cpu = [unit for unit, device in pose.tiers.items() if device == CPU]
        needed = int(case.units.static_bytes[on_cpu].sum())
        yield f"--offload cpu={-(-needed // GIB)}GiB"


def _one_more_card(case: Case) -> Iterator[str]:
    cards = case.machine.cards
    reserve = max(card.reserve_bytes for card in cards)
    device = _next_device(case.machine)

    def with_card(size_gib: int) -> Case:
        card = Card(
            device=device,
            name=f"{size_gib}GiB",
            capacity_bytes=size_gib * GIB,
            reserve_bytes=reserve,
        )
        return _with_cards(case, (*cards, card))

    sizes = [size for size in CARD_SIZES_GIB if size * GIB > reserve]
    smallest = _smallest(sizes, lambda size: _fits(with_card(size)))
    if smallest is not None:
        yield f"one more card of {smallest}GiB"


def _next_device(machine: Machine) -> str:
    kind = machine.main_device.partition(":")[0]
    used = {*machine.devices}
    return next(f"{kind}:{i}" for i in range(len(used) + 1) if f"{kind}:{i}" not in used)


def _a_larger_card(case: Case) -> Iterator[str]:
    """The smallest card that suffices in the place of one of those given."""
    best: tuple[int, int] | None = None
    for index, card in enumerate(case.machine.cards):
        sizes = [
            size
            for size in CARD_SIZES_GIB
            if size * GIB > card.capacity_bytes and (best is None or size < best[0])
        ]

        def suffices(size: int, index: int = index) -> bool:
            return _fits(_with_larger(case, index, size))

        smallest = _smallest(sizes, suffices)
        best = best if smallest is None else (smallest, index)
    if best is not None:
        card = case.machine.cards[best[1]]
        yield f"{card.device} of {best[0]}GiB instead of {format_bytes(card.capacity_bytes)}"


def _with_larger(case: Case, index: int, size_gib: int) -> Case:
    cards = list(case.machine.cards)
    cards[index] = replace(cards[index], capacity_bytes=size_gib * GIB)
    return _with_cards(case, tuple(cards))


def _with_cards(case: Case, cards: tuple[Card, ...]) -> Case:
    return replace(case, machine=replace(case.machine, cards=cards))


def _smallest(sizes: list[int], suffices: Callable[[int], bool]) -> int | None:
    """The smallest of rising sizes that suffices; larger ones do whenever smaller ones do."""
    if not sizes or not suffices(sizes[-1]):
        return None
    too_small = largest(lambda count: not suffices(sizes[count]), low=0, high=len(sizes) - 1)
    return sizes[0] if too_small is None else sizes[too_small + 1]
