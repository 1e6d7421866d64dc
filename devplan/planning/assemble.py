"""From a placement that was found to the `Plan` that is shown: loads, certificate, notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np

from devplan.core import (
    OFFLOAD_DEVICES,
    BlockGraph,
    Certificate,
    DeviceMemory,
    Machine,
    Pin,
    Plan,
    Relaxation,
    Timing,
    Traffic,
    Workload,
    ensure,
    format_bytes,
)
from devplan.planning.bounds import exceeds, lower_bound
from devplan.planning.instance import Instance, expand
from devplan.planning.objectives import request_bound
from devplan.planning.pins import REASONS, roles
from devplan.planning.problem import is_contiguous
from devplan.planning.routes import execution_device, shared_copies_of, stages_of, transfers_of
from devplan.planning.search import MAX_TOKENS, FoundPlacement, largest, rungs
from devplan.planning.speed import predicted_timing, predicted_traffic

NOT_CONTIGUOUS = (
    "no contiguous stages fit; layers were packed by size, which costs transfers "
    "({count} a token and sequence)"
)
FEWER_IN_STAGES = (
    "contiguous stages hold at most {tokens:,} tokens; layers were packed by size to hold more, "
    "which costs transfers ({count} a token and sequence)"
)
OFFLOADED_TOO = (
    "offloading layers of the main run alone does not make the model fit, so these go too"
)
INTERRUPTED = "pinned layers interrupt the stages: no contiguous stages fit with them in line"


def assemble(found: FoundPlacement, objective: str) -> Plan:
    """The plan of a placement."""
    instance = found.instance
    devices = instance.devices(found.assignment)
    placement = expand(instance.graph, instance.units, devices)
    loads = predicted_memory(instance.graph, instance.machine, instance.workload, placement)
    transfers = transfers_of(instance.graph, placement, instance.machine.main_device)
    traffic = predicted_traffic(instance.graph, instance.machine, instance.workload, placement)
    contiguous = layers_are_contiguous(instance, devices)
    return Plan(
        placement=placement,
        stages=stages_of(instance.graph, placement),
        loads=loads,
        offload_bytes=_offload_bytes(instance, placement),
        pins=_pins(instance),
        relaxed=_relaxations(found),
        transfers=transfers,
        shared_copies=shared_copies_of(instance.graph, placement, instance.machine.main_device),
        traffic=traffic,
        timing=None if instance.speeds is None else _timing(instance, placement, traffic),
        certificate=_certificate(found, objective, devices, loads),
        workload=instance.workload,
        contiguous=contiguous,
        notes=instance.notes + _notes(found, objective, contiguous, len(transfers)),
    )


def _timing(instance: Instance, placement: Mapping[str, str], traffic: Traffic) -> Timing:
    about = (
        instance.graph,
        instance.machine,
        instance.workload,
        instance.speeds,
        placement,
        traffic,
    )
    attained_s = predicted_timing(*about, lower_bound_s=0.0).request_s
    bound = request_bound(instance, instance.on_cards, attained_s)
    return predicted_timing(*about, lower_bound_s=bound)


def predicted_memory(
    graph: BlockGraph, machine: Machine, workload: Workload, placement: Mapping[str, str]
) -> tuple[DeviceMemory, ...]:
    """What a placement puts on every card at the workload."""
    tokens, batch = workload.tokens, workload.batch
    weights, buffers, cache = ({card.device: 0 for card in machine.cards} for _ in range(3))
    active = dict.fromkeys(weights, (0, ""))
    if graph.between is not None:
        active[machine.main_device] = (graph.between.bytes_at(tokens, batch), "")
    for block in graph.blocks:
        device = placement[block.name]
        runs_on = execution_device(device, machine.main_device)
        cache[runs_on] += block.cache_bytes(tokens, batch)
        needed = block.activation_bytes(tokens, batch)
        if needed > active[runs_on][0]:
            active[runs_on] = (needed, block.name)
        buffers[runs_on] += block.buffer_bytes  # accelerate offloads parameters only
        if device not in OFFLOAD_DEVICES:
            weights[device] += block.weight_bytes
    onload = _most_onloaded(graph, placement)
    return tuple(
        DeviceMemory(
            device=card.device,
            weight_bytes=weights[card.device],
            buffer_bytes=buffers[card.device],
            cache_bytes=cache[card.device],
            onload_bytes=onload if card.device == machine.main_device else 0,
            activation_bytes=active[card.device][0],
            activation_block=active[card.device][1],
            reserve_bytes=card.reserve_bytes,
            capacity_bytes=card.capacity_bytes,
        )
        for card in machine.cards
    )


def _most_onloaded(graph: BlockGraph, placement: Mapping[str, str]) -> int:
    return max(
        (b.onload_bytes for b in graph.blocks if placement[b.name] in OFFLOAD_DEVICES), default=0
    )


def _offload_bytes(instance: Instance, placement: Mapping[str, str]) -> dict[str, int]:
    totals = {tier.device: 0 for tier in instance.machine.tiers}
    for block in instance.graph.blocks:
        if placement[block.name] in totals:
            totals[placement[block.name]] += block.weight_bytes
    return {device: total for device, total in totals.items() if total}


def layers_are_contiguous(instance: Instance, devices: list[str]) -> bool:
    """Whether the layers of every card follow one another; offloaded ones are left out."""
    return is_contiguous(
        [
            device
            for unit, device in enumerate(devices)
            if device not in OFFLOAD_DEVICES
            and (unit in instance.chain_set or instance.units.is_stage_bound(unit))
        ]
    )


# ----------------------------------------------------------------------------------------- pins


def _pins(instance: Instance) -> tuple[Pin, ...]:
    role = roles(instance.graph)
    main = instance.machine.main_device
    pins = []
    for block in instance.graph.blocks:
        unit = instance.units.of[block.name]
        if unit in instance.user_pins:
            pins.append(Pin(block=block.name, device=instance.user_pins[unit], reason="user"))
        elif unit in instance.defaults and unit not in instance.relaxed | set(instance.offloaded):
            pins.append(Pin(block=block.name, device=main, reason=REASONS[role[block.name]]))
    return tuple(pins)


def _relaxations(found: FoundPlacement) -> tuple[Relaxation, ...]:
    instance = found.instance
    given_up = [rung for rung in rungs(instance) if set(rung) <= instance.relaxed]
    reasons = {rung: found.given_up_for.get(rung) or _why_relaxed(instance) for rung in given_up}
    relaxed = [Relaxation(blocks=instance.units.names(r), reason=reasons[r]) for r in given_up]
    waiting = [unit for unit in instance.offloaded if unit in instance.defaults]
    waiting = [unit for unit in sorted(waiting) if unit not in instance.relaxed]
    if waiting:
        relaxed.append(Relaxation(blocks=instance.units.names(waiting), reason=OFFLOADED_TOO))
    return tuple(relaxed)


def _why_relaxed(instance: Instance) -> str:
    """What is missing on the main device when all default pins are kept."""
    main = instance.machine.card(instance.machine.main_device)
    slot = instance.machine.devices.index(main.device)
    kept = replace(instance, relaxed=frozenset(), offloaded={}, pinned_layers_in_chain=True)
    needed = kept.bases_bytes(instance.workload.tokens)[slot]
    what = f"what belongs on {main.device} needs {format_bytes(needed)}"
    if needed > main.budget_bytes:
        missing = format_bytes(needed - main.budget_bytes)
        return f"{what} of its {format_bytes(main.budget_bytes)}: {missing} are missing"
    left = format_bytes(main.budget_bytes - needed)
    return f"{what} and leaves {left}, with which the layers do not fit on the cards"


# ---------------------------------------------------------------------------------- certificate


def _certificate(
    found: FoundPlacement, objective: str, devices: list[str], loads: tuple[DeviceMemory, ...]
) -> Certificate:
    bottleneck = max(load.share for load in loads)
    bound = float(_bound(found.instance))
    most, first_full = most_tokens(found.instance, devices)
    return Certificate(
        objective=objective,
        bottleneck=bottleneck,
        lower_bound=bound,
        solver=found.solver,
        optimal_within=found.optimal_within,
        most_tokens=most,
        first_full=first_full,
        most_tokens_bound=_most_tokens_bound(found, most),
    )


def _bound(instance: Instance) -> Fraction:
    """No placement with the same blocks offloaded has a smaller largest share."""
    kept, tokens = instance.on_cards, instance.workload.tokens
    return lower_bound(
        instance.loads_bytes[kept],
        instance.loosest_budgets_at(tokens, kept),
        _offload_bases(instance, tokens),
    )


def _offload_bases(instance: Instance, tokens: int) -> list[int] | None:
    """What offloading itself puts on the main card: buffers, caches, and room to onload."""
    if not instance.tiers:
        return None
    cache = instance.units.cache_bytes(tokens, instance.workload.batch)
    bases = [0] * len(instance.machine.cards)
    main = instance.machine.devices.index(instance.machine.main_device)
    kept = cache + instance.units.buffer_bytes
    bases[main] = instance.onload_bytes + int(kept[list(instance.tiers)].sum())
    return bases


def most_tokens(instance: Instance, devices: list[str]) -> tuple[int | None, str | None]:
    """(tokens per sequence, card): when the first card is full, and which; None: never."""
    main = instance.machine.main_device
    card_of = {device: index for index, device in enumerate(instance.machine.devices)}
    runs_on = np.array([card_of[execution_device(device, main)] for device in devices])
    units = instance.units
    static = np.where(instance.on_cards, units.static_bytes, units.buffer_bytes)
    fixed = np.zeros(len(card_of), dtype=np.int64)
    np.add.at(fixed, runs_on, static)
    fixed[card_of[main]] += instance.onload_bytes
    rooms = np.array(instance.budgets_bytes, dtype=np.int64) - fixed

    def left(tokens: int) -> np.ndarray:
        """Bytes left on every card.  # [cards]"""
        held, active = np.zeros_like(rooms), np.zeros_like(rooms)
        np.add.at(held, runs_on, instance.units.cache_bytes(tokens, instance.workload.batch))
        np.maximum.at(active, runs_on, instance.activations_at(tokens))
        active[card_of[main]] = max(active[card_of[main]], instance.between_at(tokens))
        return rooms - held - active

    most = largest(lambda tokens: bool((left(tokens) >= 0).all()), low=instance.workload.tokens)
    ensure(most is not None, "a plan that does not fit its own workload")
    if most >= MAX_TOKENS:
        return None, None
    return most, instance.machine.devices[int(left(most + 1).argmin())]


def _most_tokens_bound(found: FoundPlacement, most: int | None) -> int | None:
    """Tokens that no placement with the same blocks offloaded goes beyond."""
    if most is None or found.is_most:
        return most
    instance = found.instance
    kept = instance.on_cards
    main = instance.machine.devices.index(instance.machine.main_device)

    def may_fit(tokens: int) -> bool:
        room = list(instance.loosest_budgets_at(tokens, kept))
        room[main] -= sum(_offload_bases(instance, tokens) or [0])
        return room[main] >= 0 and not exceeds(instance.loads_at(tokens)[kept], room)

    bound = largest(may_fit, low=most)
    return None if bound is None or bound >= MAX_TOKENS else bound


# ---------------------------------------------------------------------------------------- notes


def _notes(
    found: FoundPlacement, objective: str, contiguous: bool, num_transfers: int
) -> tuple[str, ...]:
    notes = []
    if found.solver == "packing":
        tokens = found.tokens_in_stages
        text = NOT_CONTIGUOUS if tokens is None else FEWER_IN_STAGES
        notes.append(text.format(count=num_transfers, tokens=tokens))
        if objective not in ("balance", "context"):
            notes.append(f"objective {objective} was not pursued: the packing is the most balanced")
    elif not contiguous:
        notes.append(INTERRUPTED)
    if found.instance.offloaded:
        notes.append(
            f"{len(found.instance.offloaded)} layers do not fit on the GPUs and are offloaded; "
            "the fewest bytes in contiguous stages where layers are of equal size"
        )
    if not found.optimal_within:
        notes.append("the placement fits but is not proven best; see the lower bound")
    return tuple(notes)
