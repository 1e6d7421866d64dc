"""Checks every plan, and knows no solver: it counts again from the graph and the machine.

A plan that fails here is a bug of devplan's, hence `VerificationError`, which ``python -O`` does
not turn off as it would an ``assert``.  The verifier shares no code with the solvers; what it does
share (`is_inside`, the execution device, the stages' definition of an executed block) is
vocabulary.

What is checked: every block is placed once and on a device that exists; user pins, recorded pins
and ties hold; the loads are what the placement puts on every card, within the budgets and within
the tiers; nothing is offloaded without being asked for; the stages are the runs of the placement;
transfers start and end where the placement says; shares and certificate agree with the loads, and
the lower bound is not above the bottleneck.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from devplan.core import (
    OFFLOAD_DEVICES,
    Block,
    BlockGraph,
    DeviceMemory,
    Machine,
    Plan,
    VerificationError,
    Workload,
    ensure,
    is_inside,
    normalise_device,
)
from devplan.planning.instance import PlanRequest
from devplan.planning.routes import executed, execution_device


def verify(plan: Plan, graph: BlockGraph, request: PlanRequest) -> None:
    """Pass in silence, or raise.

    Raises
    ------
    VerificationError
        The plan is wrong; the message says in what.
    """
    machine, workload = request.machine, request.workload
    _check_devices(plan, graph, machine)
    _check_pins(plan, machine, request.pins)
    _check_ties(plan, graph)
    if request.default_pins:
        _check_default_pins(plan, graph)
    for card, load in zip(machine.cards, plan.loads, strict=True):
        stated = load.device, load.capacity_bytes, load.reserve_bytes
        there = card.device, card.capacity_bytes, card.reserve_bytes
        _check(stated == there, f"load of another GPU than {card.device}")
        _check_load(plan, load, graph, machine, workload)
    _check_tiers(plan, graph, machine)
    _check_stages(plan, graph)
    _check_transfers(plan, machine)
    _check_certificate(plan, workload)


def _check(holds: bool, wrong: str) -> None:
    ensure(holds, wrong, VerificationError)


def _check_devices(plan: Plan, graph: BlockGraph, machine: Machine) -> None:
    _check(list(plan.placement) == list(graph.names), "placement and graph name different blocks")
    known = {*machine.devices, *(tier.device for tier in machine.tiers)}
    unknown = {device for device in plan.placement.values() if device not in known}
    _check(not unknown, f"placed on devices that are not there: {sorted(unknown)}")


def _check_pins(plan: Plan, machine: Machine, pins: Mapping[str, str]) -> None:
    for pin in plan.pins:
        _check(plan.placement[pin.block] == pin.device, f"pin of {pin.block} is not kept")
    for name, typed in pins.items():
        device = normalise_device(typed, machine)
        for block, placed in plan.placement.items():
            if is_inside(block, name) or is_inside(name, block):
                _check(placed == device, f"{name} was pinned to {device}, {block} is on {placed}")


def _check_ties(plan: Plan, graph: BlockGraph) -> None:
    for group in graph.tied:
        devices = {plan.placement[name] for name in group}
        _check(len(devices) == 1, f"tied blocks {group} are on {sorted(devices)}")


def _check_default_pins(plan: Plan, graph: BlockGraph) -> None:
    explained = {pin.block for pin in plan.pins}
    explained |= {name for relaxation in plan.relaxed for name in relaxation.blocks}
    tied_layers = {
        name
        for group in _joined_groups(graph)
        if any(graph.block(n).stage_bound for n in group)
        for name in group
    }
    for block in graph.blocks:
        loose = not block.stage_bound and block.name not in explained | tied_layers
        _check(not loose, f"{block.name} is neither pinned nor said to be relaxed")


def _joined_groups(graph: BlockGraph) -> list[set[str]]:
    """The ties, those that overlap made one: what is tied to a tied block is tied to all of it."""
    joined: list[set[str]] = []
    for group in graph.tied:
        touching = [other for other in joined if not other.isdisjoint(group)]
        joined = [other for other in joined if other.isdisjoint(group)]
        joined.append(set(group).union(*touching))
    return joined


def _check_load(
    plan: Plan, load: DeviceMemory, graph: BlockGraph, machine: Machine, workload: Workload
) -> None:
    lying = [block for block in graph.blocks if plan.placement[block.name] == load.device]
    running = [block for block in graph.blocks if _runs_on(plan, block, machine) == load.device]
    offloaded = [b for b in graph.blocks if plan.placement[b.name] in OFFLOAD_DEVICES]
    is_main = load.device == machine.main_device
    onload = max((block.onload_bytes for block in offloaded), default=0) if is_main else 0
    tokens, batch = workload.tokens, workload.batch
    counted = (
        sum(block.weight_bytes for block in lying),
        sum(block.buffer_bytes for block in running),
        sum(block.cache_bytes(tokens, batch) for block in running),
        onload,
        _most_active(running, graph, is_main, workload),
    )
    stated = (
        *(load.weight_bytes, load.buffer_bytes, load.cache_bytes),
        *(load.onload_bytes, load.activation_bytes),
    )
    _check(stated == counted, f"{load.device}: stated {stated}, counted {counted}")
    _check(load.headroom_bytes >= 0, f"{load.device} lacks {-load.headroom_bytes} bytes")


def _most_active(running: list[Block], graph: BlockGraph, is_main: bool, workload: Workload) -> int:
    tokens, batch = workload.tokens, workload.batch
    needed = [block.activation_bytes(tokens, batch) for block in running]
    if is_main and graph.between is not None:
        needed.append(graph.between.bytes_at(tokens, batch))
    return max(needed, default=0)


def _runs_on(plan: Plan, block: Block, machine: Machine) -> str:
    return execution_device(plan.placement[block.name], machine.main_device)


def _check_tiers(plan: Plan, graph: BlockGraph, machine: Machine) -> None:
    for tier in machine.tiers:
        on_tier = [b for b in graph.blocks if plan.placement[b.name] == tier.device]
        total = sum(block.weight_bytes for block in on_tier)
        _check(plan.offload_bytes.get(tier.device, 0) == total, f"{tier.device}: wrong total")
        bounded = tier.capacity_bytes is not None
        _check(not bounded or total <= tier.capacity_bytes, f"{tier.device} overflows")


def _check_stages(plan: Plan, graph: BlockGraph) -> None:
    walked = [name for stage in plan.stages for name in stage.blocks]
    _check(walked == [block.name for block in executed(graph)], "stages do not walk the blocks")
    for stage in plan.stages:
        _check(stage.blocks, "an empty stage")
        _check({plan.placement[name] for name in stage.blocks} == {stage.device}, "mixed stage")
    devices = [stage.device for stage in plan.stages]
    _check(all(a != b for a, b in itertools.pairwise(devices)), "a stage was cut in two")


def _check_transfers(plan: Plan, machine: Machine) -> None:
    for transfer in plan.transfers:
        _check(transfer.source != transfer.target, "a transfer to the same device")
        target = execution_device(plan.placement[transfer.before], machine.main_device)
        _check(transfer.target == target, f"transfer before {transfer.before} goes elsewhere")


def _check_certificate(plan: Plan, workload: Workload) -> None:
    certificate = plan.certificate
    _check(certificate.bottleneck == max(load.share for load in plan.loads), "wrong bottleneck")
    _check(certificate.bottleneck <= 1, "a plan that does not fit")
    _check(certificate.lower_bound <= certificate.bottleneck, "lower bound above the bottleneck")
    most, bound = certificate.most_tokens, certificate.most_tokens_bound
    _check(most is None or most >= workload.tokens, "fewer tokens than the workload")
    _check(bound is None or (most is not None and bound >= most), "bound below what is attained")
