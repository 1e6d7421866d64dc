"""Where the components of a pipeline lie: whole where that is possible, else split inside.

The models of a pipeline run one after the other, and the weights of all of them are there all the
time.  So a card holds the weights of its components and, beside them, the activations of the one
component that needs most: the peak of its phase, never the sum.

1. Whole components.  There are few of them, so every placement is looked at: the best one has the
   smallest largest share, then the fewest changes of device in the order in which they run.
2. Components that no card can hold are split between their layers, the others stay whole; then,
   where nothing fits yet, the next largest one is split too, until all are.
3. Where it was asked for, what does not fit is offloaded.

Nothing is ever left out: what fits in none of these ways is infeasible, with the numbers.

References
----------
diffusers' ``device_map="balanced"`` (``_get_final_device_map`` of 0.42) leaves a component that
fits on no card beside the others on the CPU, and places none of them by what it needs while it
runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf

from devplan.core import (
    OFFLOAD_DEVICES,
    BlockGraph,
    Infeasible,
    InputError,
    Machine,
    Pin,
    Plan,
    Workload,
    format_bytes,
    is_inside,
    normalise_device,
)
from devplan.planning.instance import PlanRequest
from devplan.planning.pins import HOME, REASONS
from devplan.planning.routes import BARE_TENSORS

OBJECTIVES = ("balance", "fewest")
"""Of a pipeline; the others are about generated tokens."""
MOST_PLACEMENTS = 100_000
"""Of whole components that are looked at, under a second: five on eight cards are 32,768."""
WITHIN = "all placements of whole components with these pins, by largest share"
SOLVER = "components"


@dataclass(frozen=True, kw_only=True, eq=False)
class Components:
    """A pipeline as this module sees it: a few things that run one after the other."""

    graph: BlockGraph
    request: PlanRequest

    @property
    def machine(self) -> Machine:
        return self.request.machine

    @property
    def workload(self) -> Workload:
        return self.request.workload

    @cached_property
    def fixed(self) -> dict[str, str] | None:
        """Component -> device where a pin says so; None where pins tear a component apart."""
        fixed: dict[str, str] = {}
        for name, typed in self.request.pins.items():
            device = normalise_device(typed, self.machine)
            for component in self.graph.components:
                meets = is_inside(name, component) or is_inside(component, name)
                if meets and fixed.setdefault(component, device) != device:
                    return None
        if self.request.default_pins and self.graph.home:
            fixed.setdefault(self.graph.home, self.machine.main_device)
        return fixed

    @cached_property
    def load_bytes(self) -> dict[str, int]:
        return {name: self._sum(name) for name in self.graph.components}

    @cached_property
    def active_bytes(self) -> dict[str, int]:
        """The peak of each component beside weights, while it runs."""
        tokens, batch = self.workload.tokens, self.workload.batch
        return {
            name: max(
                block.activation_bytes(tokens, batch)
                for block in self.graph.blocks
                if is_inside(block.name, name)
            )
            for name in self.graph.components
        }

    def _sum(self, component: str) -> int:
        tokens, batch = self.workload.tokens, self.workload.batch
        blocks = (block for block in self.graph.blocks if is_inside(block.name, component))
        return sum(block.load_bytes(tokens, batch) for block in blocks)

    def share(self, names: tuple[str, ...], device: str) -> float:
        """Load of a card that holds these components over the room for it."""
        load = sum(self.load_bytes[name] for name in names)
        active = [self.active_bytes[name] for name in names]
        if device == self.machine.main_device and self.graph.between is not None:
            tokens, batch = self.workload.tokens, self.workload.batch
            active.append(self.graph.between.bytes_at(tokens, batch))
        room = self.machine.card(device).budget_bytes - max(active, default=0)
        if room <= 0:
            return inf if names else 0.0
        return load / room

    def too_large(self) -> list[str]:
        """Components that no card can hold."""
        cards = self.machine.devices
        return [
            name
            for name in self.graph.components
            if all(self.share((name,), device) > 1 for device in cards)
        ]


def plan_pipeline(
    graph: BlockGraph,
    request: PlanRequest,
    place: Callable[[BlockGraph, PlanRequest], Plan | Infeasible],
) -> Plan | Infeasible:
    """The best placement of a pipeline's components, in bytes only.

    Parameters
    ----------
    graph
        Blocks of all components, in the order in which they run.
    request
        As for `devplan.planning.plan`.
    place
        Places blocks, and verifies the plan.

    Raises
    ------
    InputError
        For an objective that is about tokens, and as `plan` does.
    """
    if request.objective not in OBJECTIVES:
        raise InputError(
            f"--objective {request.objective} is for models that generate tokens, and this is a "
            f"pipeline; give {' or '.join(OBJECTIVES)}"
        )
    parts = Components(graph=graph, request=request)
    whole = _best_whole(parts, request.objective == "fewest")
    if whole is not None:
        placed = place(graph, replace(request, pins={**whole, **request.pins}))
        if isinstance(placed, Plan):
            return _as_components(placed, parts, set(request.pins))
    on_cards = replace(request, machine=replace(request.machine, tiers=()))
    for apart in _levels(parts):
        glued = replace(graph, tied=(*graph.tied, *_glue(graph, apart)))
        result = place(glued, on_cards)
        if isinstance(result, Plan):
            return _with_note(result, apart)
    if request.machine.tiers:
        loose = replace(graph, tied=(*graph.tied, *_bare_with_next(graph)))
        result = place(loose, request)
    return _explained(result, parts) if isinstance(result, Infeasible) else result


def _explained(result: Infeasible, parts: Components) -> Infeasible:
    """Why nothing fits, with what each component holds and needs."""
    needs = [
        f"{name} holds {format_bytes(parts.load_bytes[name])} and needs "
        f"{format_bytes(parts.active_bytes[name])} beside it while it runs"
        for name in parts.graph.components
    ]
    return replace(result, reason=f"{result.reason}; {'; '.join(needs)}")


def _best_whole(parts: Components, fewest: bool) -> dict[str, str] | None:
    """Component -> device of the best placement of whole components that fits."""
    fixed, cards = parts.fixed, parts.machine.devices
    if fixed is None or any(device in OFFLOAD_DEVICES for device in fixed.values()):
        return None
    names = parts.graph.components
    choices = [(fixed[name],) if name in fixed else cards for name in names]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > MOST_PLACEMENTS or parts.too_large():
        return None
    shares: dict[tuple[str, tuple[str, ...]], float] = {}

    def rank(devices: tuple[str, ...]) -> tuple:
        held = {d: tuple(n for n, on in zip(names, devices, strict=True) if on == d) for d in cards}
        for device, inside in held.items():
            if (device, inside) not in shares:
                shares[device, inside] = parts.share(inside, device)
        share = max(shares[device, inside] for device, inside in held.items())
        changes = sum(a != b for a, b in itertools.pairwise(devices))
        num_cards = len(set(devices)) if fewest else 0
        return (share > 1, num_cards, share, changes, tuple(map(cards.index, devices)))

    best = min(itertools.product(*choices), key=rank)
    return None if rank(best)[0] else dict(zip(names, best, strict=True))


def _levels(parts: Components) -> Iterator[frozenset[str]]:
    """Components that are split: those that no card holds, then the next largest, then all."""
    home, graph = parts.graph.home, parts.graph
    largest = sorted(graph.components, key=lambda name: (name == home, -parts.load_bytes[name]))
    apart = set(parts.too_large())
    waiting = [name for name in largest if name not in apart]
    if apart:
        yield frozenset(apart)
    for name in waiting:
        apart.add(name)
        yield frozenset(apart)


def _glue(graph: BlockGraph, apart: frozenset[str]) -> list[tuple[str, ...]]:
    """Blocks that stay together: whole components, and what lies between the layers of a split one
    with the layer that comes next, or else with the last one."""
    groups: list[tuple[str, ...]] = []
    for component in graph.components:
        blocks = [block for block in graph.blocks if is_inside(block.name, component)]
        if component not in apart:
            groups.append(tuple(block.name for block in blocks))
            continue
        waiting: list[str] = []
        last = None
        for block in blocks:
            waiting.append(block.name)
            if block.stack is not None:
                groups.append(tuple(waiting))
                waiting, last = [], block.name
        if waiting:
            groups.append((*([last] if last else []), *waiting))
    return [group for group in groups if len(group) > 1]


def _bare_with_next(graph: BlockGraph) -> list[tuple[str, ...]]:
    """Bare tensors stay with the block behind them: no hook would bring one to a card."""
    pairs = itertools.pairwise(graph.blocks)
    return [(a.name, b.name) for a, b in pairs if a.class_name in BARE_TENSORS]


def _as_components(plan: Plan, parts: Components, said: set[str]) -> Plan:
    """The plan with the pins that it was asked for, and who found it."""
    graph = parts.graph
    pins = [pin for pin in plan.pins if _is_said(pin.block, said)]
    if parts.request.default_pins and graph.home and not _is_said(graph.home, said):
        pins += [
            Pin(block=block.name, device=plan.placement[block.name], reason=REASONS[HOME])
            for block in graph.blocks
            if is_inside(block.name, graph.home)
        ]
    certificate = replace(plan.certificate, solver=SOLVER, optimal_within=WITHIN)
    return replace(plan, pins=tuple(pins), certificate=certificate)


def _is_said(block: str, said: set[str]) -> bool:
    return any(is_inside(block, name) or is_inside(name, block) for name in said)


def _with_note(plan: Plan, apart: frozenset[str]) -> Plan:
    names = " and ".join(sorted(apart))
    return replace(plan, notes=(*plan.notes, f"whole components do not fit; split: {names}"))
