"""Why nothing fits: which GPU lacks how much in the best placement, and whether that is proven.

Proven means: the lower bound over all placements is above 1, or the exact packing found none even
with every default pin given up.  With offloading allowed only the pins can prove anything, as
blocks may leave the GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from devplan.core import (
    CPU,
    GIB,
    MIB,
    Card,
    DeviceMemory,
    Infeasible,
    Machine,
    OffloadTier,
    Placement,
    Remedy,
    ensure,
    format_bytes,
)
from devplan.planning.assemble import predicted_memory
from devplan.planning.bounds import lower_bound
from devplan.planning.instance import Instance, PlanRequest, contract, expand
from devplan.planning.pins import default_pins, resolve_user_pins
from devplan.planning.search import find_offload, fits, largest, loosest, relaxations
from devplan.planning.solvers import chain, packing


def explain(instance: Instance, request: PlanRequest) -> Infeasible:
    """What is missing where, and the smallest changes that would make it fit."""
    bound = lower_bound(instance.loads_bytes, instance.loosest_budgets_bytes)
    placement = _least_overflowing(instance)
    loads = predicted_memory(instance.graph, instance.machine, instance.workload, placement)
    proven = _is_proven(instance, bound)
    return Infeasible(
        reason=_reason(instance, bound, loads, proven),
        loads=loads,
        placement=placement,
        lower_bound=float(bound),
        proven=proven,
        remedies=remedies_for(instance, request),
    )


def _least_overflowing(instance: Instance) -> Placement:
    """The placement on the GPUs alone that overflows least, as far as one was found."""
    tried = [replace(instance, relaxed=each) for each in relaxations(instance)]
    tried.append(loosest(instance))
    problems = [each.problem() for each in tried]
    shares = [chain.smallest_share(problem) for problem in problems]
    share, index = min((s, i) for i, s in enumerate(shares) if s is not None)
    assignment = chain.arrange(problems[index], share)
    ensure(assignment is not None, "the share was attained")
    best = tried[index]
    return expand(best.graph, best.units, best.devices(assignment))


def _is_proven(instance: Instance, bound: Fraction) -> bool:
    if instance.machine.tiers:
        return False
    if bound > 1:
        return True
    within = packing.pack_within(loosest(instance).problem())
    return within.proven and within.assignment is None


def _reason(
    instance: Instance, bound: Fraction, loads: tuple[DeviceMemory, ...], proven: bool
) -> str:
    needed, offered = int(instance.loads_bytes.sum()), sum(instance.loosest_budgets_bytes)
    if needed > offered:
        return _too_little(instance, needed, offered)
    if bound > 1:
        return (
            f"every placement fills some GPU to at least {float(bound):.1%}: "
            f"{format_bytes(needed)} would fit into {format_bytes(offered)}, "
            "but the blocks cannot be divided that way"
        )
    worst = min(loads, key=lambda load: load.headroom_bytes)
    claim = "no placement fits" if proven else "no placement was found"
    pinned = " with these pins" if instance.user_pins else ""
    missing = -worst.headroom_bytes
    lacks = f": at best {worst.device} lacks {format_bytes(missing)}" if missing > 0 else ""
    return f"{claim}{pinned}{lacks}"


def _too_little(instance: Instance, needed: int, offered: int) -> str:
    """What is needed, and what becomes of the memory of all GPUs; the sums are exact."""
    workload, cards = instance.workload, instance.machine.cards
    cache = int(instance.units.cache_bytes(workload.tokens, workload.batch).sum())
    capacity = sum(card.capacity_bytes for card in cards)
    reserve = capacity - sum(instance.budgets_bytes)
    have = f"the {len(cards)} GPUs have" if len(cards) > 1 else "the GPU has"
    beside = (
        "the reserve leaves" if capacity - reserve == offered else "reserve and activations leave"
    )
    return (
        f"weights need {format_bytes(needed - cache)} and the cache {format_bytes(cache)} for "
        f"{workload.tokens:,} tokens x batch {workload.batch}; {have} {format_bytes(capacity)}, of "
        f"which {beside} at most {format_bytes(offered)}: {format_bytes(needed - offered)} "
        "are missing"
    )


# ----------------------------------------------------------------------------------------- remedies
#
# Every remedy that is named was tried: the changed instance was searched, and something fits.
# "Smallest" is by bisection over a quantity in which fitting is monotone: less context, fewer
# sequences, less reserve, larger cards.  Each trial is the planner's own search with a smaller
# limit on packings, so that all remedies together take well under a second.  Where only a packing
# fits, a longer search may find one at a little more context or batch.
#
# Giving up default pins is not a remedy: they give way by themselves.


CARD_SIZES_GIB = (8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 141, 192)
"""Memory sizes in which GPUs are sold, as the makers' data sheets name them: consumer cards of
NVIDIA (8 to 32), workstation cards (48, 96), A100 and H100 (40, 80), H200 (141), AMD MI210 and
MI300X (64, 192)."""
MAX_STEPS = 2_000
"""Of a packing, in a trial; 2 to 4 ms."""


def remedies_for(instance: Instance, request: PlanRequest) -> tuple[Remedy, ...]:
    """What would make the instance fit, the cheapest kinds first."""
    changes = (
        *_less_context(instance),
        *_less_batch(instance),
        *_other_graphs(instance, request),
        *_fewer_pins(instance, request.pins),
        *_smaller_reserve(instance),
        *(_offload(instance) if request.can_offload else ()),
        *_one_more_card(instance),
        *_a_larger_card(instance),
    )
    return tuple(Remedy(change=change) for change in changes)


def _fits(instance: Instance) -> bool:
    return fits(instance, max_steps=MAX_STEPS)


def _less_context(instance: Instance) -> Iterator[str]:
    asked = instance.workload.tokens

    def fits_at(tokens: int) -> bool:
        return _fits(replace(instance, workload=replace(instance.workload, context=tokens)))

    most = largest(fits_at, low=1, high=asked) if asked > 1 else None
    if most is not None:
        yield f"--context {most} instead of {asked}"


def _less_batch(instance: Instance) -> Iterator[str]:
    asked = instance.workload.batch

    def fits_at(batch: int) -> bool:
        return _fits(replace(instance, workload=replace(instance.workload, batch=batch)))

    most = largest(fits_at, low=1, high=asked) if asked > 1 else None
    if most is not None:
        yield f"--batch {most} instead of {asked}"


def _other_graphs(instance: Instance, request: PlanRequest) -> Iterator[str]:
    for change, make_graph in request.alternatives.items():
        graph = make_graph()
        units = contract(graph)
        other = replace(
            instance,
            graph=graph,
            units=units,
            user_pins=resolve_user_pins(request.pins, graph, units, instance.machine).devices,
            defaults=default_pins(graph, units) if instance.defaults else {},
        )
        if _fits(other):
            yield change


def _fewer_pins(instance: Instance, pins: Mapping[str, str]) -> Iterator[str]:
    def fits_with(kept: Mapping[str, str]) -> bool:
        user = resolve_user_pins(kept, instance.graph, instance.units, instance.machine)
        return _fits(replace(instance, user_pins=user.devices))

    if not pins or not fits_with({}):
        return
    alone = [name for name in pins if fits_with({n: d for n, d in pins.items() if n != name})]
    for name in alone:
        yield f"without --pin {name}={pins[name]}"
    if not alone:
        yield "without any --pin"


def _smaller_reserve(instance: Instance) -> Iterator[str]:
    asked = max(card.reserve_bytes for card in instance.machine.cards)

    def capped(reserve_mib: int) -> Instance:
        limit = reserve_mib * MIB
        cards = tuple(
            replace(card, reserve_bytes=min(card.reserve_bytes, limit))
            for card in instance.machine.cards
        )
        return _with_cards(instance, cards)

    if asked < MIB:
        return
    most = largest(lambda mib: _fits(capped(mib)), low=0, high=-(-asked // MIB))
    if most is not None:
        yield f"--reserve {most}MiB instead of {format_bytes(asked)}"


def _offload(instance: Instance) -> Iterator[str]:
    tiers = tuple(tier for tier in instance.machine.tiers if tier.device != CPU)
    unbounded = (OffloadTier(device=CPU, capacity_bytes=None), *tiers)
    instance = find_offload(replace(instance, machine=replace(instance.machine, tiers=unbounded)))
    if instance is not None:
        on_cpu = [unit for unit, device in instance.tiers.items() if device == CPU]
        needed = int(instance.units.static_bytes[on_cpu].sum())
        yield f"--offload cpu={-(-needed // GIB)}GiB"


def _one_more_card(instance: Instance) -> Iterator[str]:
    cards = instance.machine.cards
    reserve = max(card.reserve_bytes for card in cards)
    device = _next_device(instance.machine)

    def with_card(size_gib: int) -> Instance:
        card = Card(
            device=device,
            name=f"{size_gib}GiB",
            capacity_bytes=size_gib * GIB,
            reserve_bytes=reserve,
        )
        return _with_cards(instance, (*cards, card))

    sizes = [size for size in CARD_SIZES_GIB if size * GIB > reserve]
    smallest = _smallest(sizes, lambda size: _fits(with_card(size)))
    if smallest is not None:
        yield f"one more GPU of {smallest}GiB"


def _next_device(machine: Machine) -> str:
    kind = machine.main_device.partition(":")[0]
    used = {*machine.devices}
    return next(f"{kind}:{i}" for i in range(len(used) + 1) if f"{kind}:{i}" not in used)


def _a_larger_card(instance: Instance) -> Iterator[str]:
    """The smallest card that suffices in the place of one of those given."""
    best: tuple[int, int] | None = None
    for index, card in enumerate(instance.machine.cards):
        sizes = [
            size
            for size in CARD_SIZES_GIB
            if size * GIB > card.capacity_bytes and (best is None or size < best[0])
        ]

        def suffices(size: int, index: int = index) -> bool:
            return _fits(_with_larger(instance, index, size))

        smallest = _smallest(sizes, suffices)
        best = best if smallest is None else (smallest, index)
    if best is not None:
        card = instance.machine.cards[best[1]]
        yield f"{card.device} of {best[0]}GiB instead of {format_bytes(card.capacity_bytes)}"


def _with_larger(instance: Instance, index: int, size_gib: int) -> Instance:
    cards = list(instance.machine.cards)
    cards[index] = replace(cards[index], capacity_bytes=size_gib * GIB)
    return _with_cards(instance, tuple(cards))


def _with_cards(instance: Instance, cards: tuple[Card, ...]) -> Instance:
    return replace(instance, machine=replace(instance.machine, cards=cards))


def _smallest(sizes: list[int], suffices: Callable[[int], bool]) -> int | None:
    """The smallest of rising sizes that suffices; larger ones do whenever smaller ones do."""
    if not sizes or not suffices(sizes[-1]):
        return None
    too_small = largest(lambda count: not suffices(sizes[count]), low=0, high=len(sizes) - 1)
    return sizes[0] if too_small is None else sizes[too_small + 1]
