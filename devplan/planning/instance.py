"""From the user's words to a solver's problem: what is fixed, what is spread, and at which size.

A `PlanRequest` is asked of the planner.  An `Instance` is the request with its names resolved, and
with the choices that the search makes before it asks a solver: which default pins give way, which
blocks are offloaded, and whether pinned layers may interrupt the stages.  An instance and a number
of tokens give a `Problem`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np

from devplan.core import OFFLOAD_DEVICES, Block, BlockGraph, Machine, Workload
from devplan.machine import Speed
from devplan.planning.problem import Assignment, Problem, Slot
from devplan.planning.routes import execution_device, route

Alternatives = Mapping[str, Callable[[], BlockGraph]]
"""Change, as the user would type it -> the graph after it: ``{"--quantize 8bit": ...}``."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PlanRequest:
    """What is asked of the planner, besides the blocks."""

    machine: Machine
    """Cards in the order in which they were named; tiers only where offloading is allowed."""
    workload: Workload
    """Decides the size of the caches."""
    objective: str = "balance"
    """``balance`` (smallest largest share), ``context`` (most tokens), ``fewest`` (cards),
    ``latency`` (least time of a request) or ``sequences`` (largest batch)."""
    pins: Mapping[str, str] = field(default_factory=dict)
    """Module -> device, as the user typed them."""
    default_pins: bool = True
    """Whether every block that is not a layer belongs on the main device where it fits."""
    alternatives: Alternatives = field(default_factory=dict)
    """Other graphs to try when nothing fits."""
    can_offload: bool = True
    """Whether the model runs with weights outside the GPUs; else no offloading is offered."""
    limit_tokens: int | None = None
    """Longest context that the model supports; None: not known."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Instance:
    """A request with names resolved and everything decided but where the chain goes."""

    graph: BlockGraph
    units: Units
    machine: Machine
    workload: Workload
    user_pins: Mapping[int, str]
    """Unit -> device."""
    defaults: Mapping[int, str]
    """Unit on the main device -> its role; empty without default pins."""
    notes: tuple[str, ...] = ()
    """How the user's pins were read."""
    distances: tuple[tuple[float, ...], ...] | None = None
    """Seconds of a transfer from card to card; None: all links are alike."""
    speeds: tuple[Speed, ...] | None = None
    """Of every card; None where speed was not asked for."""
    relaxed: frozenset[int] = frozenset()
    """Units whose default pin gives way."""
    offloaded: Mapping[int, str] = field(default_factory=dict)
    """Unit -> tier, besides those that the user pinned to a tier."""
    pinned_layers_in_chain: bool = True
    """Whether pinned layers are part of their card's stage; else the stages close over them."""

    @cached_property
    def budgets_bytes(self) -> list[int]:
        """Capacity less reserve of every card."""
        return [card.budget_bytes for card in self.machine.cards]

    @cached_property
    def loosest_budgets_bytes(self) -> list[int]:
        """Room for weights and cache that no placement at the workload exceeds."""
        return self.loosest_budgets_at(self.workload.tokens)

    def loosest_budgets_at(self, tokens: int, on_cards: np.ndarray | None = None) -> list[int]:
        """Budgets less what is kept for activations wherever the units lie; valid for bounds.

        A card that runs a layer keeps room for the layer that needs least.  One that runs none
        holds at most all that is no layer: it may count as one that runs a layer where that holds
        as much, at the share of the loads in the room.  Else its whole budget counts.

        `on_cards` tells which units are not offloaded; None: all.
        """
        layers = np.array([self.units.is_stage_bound(unit) for unit in range(len(self.units))])
        if not layers.any():
            return self.budgets_bytes
        least = int(self.activations_at(tokens)[layers].min())
        loads = self.loads_at(tokens) * (True if on_cards is None else on_cards)
        aside, total = int(loads[~layers].sum()), int(loads.sum())
        rooms = [max(budget - least, 1) for budget in self.budgets_bytes]
        while True:
            share = min(Fraction(total, sum(rooms)), Fraction(1))
            loosened = [
                budget if share * room < aside else room
                for budget, room in zip(self.budgets_bytes, rooms, strict=True)
            ]
            if loosened == rooms:
                return rooms
            rooms = loosened

    def activations_at(self, tokens: int) -> np.ndarray:
        """What every unit needs while it runs.  # [units]"""
        return self.units.activation_bytes(tokens, self.workload.batch)

    def between_at(self, tokens: int) -> int:
        """What the code between the blocks needs on the main device."""
        growth = self.graph.between
        return min(growth.bytes_at(tokens, self.workload.batch), MOST_BYTES) if growth else 0

    @property
    def loads_bytes(self) -> np.ndarray:
        """Load of every unit at the workload.  # [units]"""
        return self.loads_at(self.workload.tokens)

    def loads_at(self, tokens: int) -> np.ndarray:
        return self.units.loads_bytes(tokens, self.workload.batch)

    @cached_property
    def fixed(self) -> dict[int, str]:
        """Unit -> device, for all that is not spread over the cards."""
        kept = (unit for unit in self.defaults if unit not in self.relaxed)
        fixed = dict.fromkeys(kept, self.machine.main_device)
        for unit, device in self.user_pins.items():
            if self.pinned_layers_in_chain and _is_pinned_layer(self, unit):
                continue
            fixed[unit] = device
        return fixed | dict(self.offloaded)

    @cached_property
    def chain(self) -> tuple[int, ...]:
        """The units that are spread over the cards, in execution order."""
        return tuple(unit for unit in range(len(self.units)) if unit not in self.fixed)

    @cached_property
    def chain_set(self) -> frozenset[int]:
        return frozenset(self.chain)

    @cached_property
    def tiers(self) -> dict[int, str]:
        """Unit -> ``cpu`` or ``disk``."""
        return {unit: d for unit, d in self.fixed.items() if d in OFFLOAD_DEVICES}

    @property
    def on_cards(self) -> np.ndarray:
        """Which units are not offloaded.  # [units], bool"""
        return np.array([unit not in self.tiers for unit in range(len(self.units))], dtype=bool)

    @cached_property
    def onload_bytes(self) -> int:
        """Room that the main card keeps for weights of an offloaded unit while it runs."""
        return max((int(self.units.onload_bytes[unit]) for unit in self.tiers), default=0)

    def problem(self, tokens: int | None = None) -> Problem:
        """The solver's problem at that many tokens; at the workload when None."""
        tokens = self.workload.tokens if tokens is None else tokens
        loads, needed = self.loads_at(tokens), self.activations_at(tokens)
        bases, active = self.bases_bytes(tokens), self.active_bytes(tokens)
        in_use, slot_of = {self.run_slot(unit) for unit in self.fixed}, self._slot_of
        slots = tuple(
            Slot(
                device=card.device,
                budget_bytes=card.budget_bytes,
                base_bytes=bases[index],
                active_bytes=active[index],
                in_use=index in in_use,
            )
            for index, card in enumerate(self.machine.cards)
        )
        return Problem(
            loads_bytes=tuple(loads[list(self.chain)].tolist()),
            activations_bytes=tuple(needed[list(self.chain)].tolist()),
            slots=slots,
            pinned={
                item: slot_of[self.user_pins[unit]]
                for item, unit in enumerate(self.chain)
                if unit in self.user_pins
            },
            first=self._end(self.units.route),
            last=self._end(self.units.route[::-1]),
            main=slot_of[self.machine.main_device],
            distances=self.distances,
        )

    def active_bytes(self, tokens: int) -> list[int]:
        """What needs most while it runs, of what runs on every card whatever the solver does.

        # [cards]
        """
        needed, active = self.activations_at(tokens), [0] * len(self.machine.cards)
        for unit in self.fixed:
            slot = self.run_slot(unit)
            active[slot] = max(active[slot], int(needed[unit]))
        main = self._slot_of[self.machine.main_device]
        active[main] = max(active[main], self.between_at(tokens))
        return active

    def bases_bytes(self, tokens: int) -> list[int]:
        """What lies on every card whatever the solver does.  # [cards]"""
        units, batch = self.units, self.workload.batch
        static, cache = units.static_bytes, units.cache_bytes(tokens, batch)
        bases = [0] * len(self.machine.cards)
        for unit in self.fixed:
            # Offloaded weights are not on a card; the cache of the block is, where it runs.
            held = units.buffer_bytes if unit in self.tiers else static
            weights = int(held[unit])
            bases[self.run_slot(unit)] += weights + int(cache[unit])
        bases[self._slot_of[self.machine.main_device]] += self.onload_bytes
        return bases

    def devices(self, assignment: Assignment) -> list[str]:
        """Device of every unit.  # [units]"""
        names = self.machine.devices
        spread = zip(self.chain, assignment, strict=True)
        placed = self.fixed | {unit: names[slot] for unit, slot in spread}
        return [placed[unit] for unit in range(len(self.units))]

    def run_slot(self, unit: int) -> int:
        """Card on which a fixed unit runs."""
        return self._slot_of[execution_device(self.fixed[unit], self.machine.main_device)]

    @cached_property
    def _slot_of(self) -> dict[str, int]:
        return {card.device: index for index, card in enumerate(self.machine.cards)}

    def _end(self, walk: tuple[int, ...]) -> int | None:
        """Card of the fixed unit next to the chain, coming along this walk."""
        slot = None
        for unit in walk:
            if unit not in self.fixed:
                break
            slot = self.run_slot(unit)
        return slot


def _is_pinned_layer(instance: Instance, unit: int) -> bool:
    on_a_card = instance.user_pins[unit] not in OFFLOAD_DEVICES
    return on_a_card and instance.units.is_stage_bound(unit)


def has_pinned_layers(instance: Instance) -> bool:
    """Whether the user pinned a layer of the main run to a card."""
    return any(_is_pinned_layer(instance, unit) for unit in instance.user_pins)


# -------------------------------------------------------------------------------------------- units
#
# Tied blocks share a tensor and must share a device, so each group of tied blocks becomes one
# *unit* at the position of its first member.  Every other block is a unit of its own.  Groups that
# overlap are merged.  `expand` turns devices of units back into devices of blocks.


MOST_BYTES = 2**60
"""More than any card has: what grows with the square of the tokens leaves 64 bits at the longest
contexts that are tried."""
_NO_WINDOW = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, eq=False, kw_only=True)
class Units:
    """The blocks of a graph with tied ones merged, in execution order."""

    graph: BlockGraph
    blocks: tuple[tuple[Block, ...], ...]
    """Members of every unit; more than one where they are tied."""

    def __len__(self) -> int:
        return len(self.blocks)

    @cached_property
    def of(self) -> Mapping[str, int]:
        """Block name -> its unit."""
        members = enumerate(self.blocks)
        return {block.name: unit for unit, blocks in members for block in blocks}

    @cached_property
    def route(self) -> tuple[int, ...]:
        """The unit of every block on the route."""
        return tuple(self.of[block.name] for block in route(self.graph))

    @cached_property
    def static_bytes(self) -> np.ndarray:
        """Weights and buffers.  # [units], int64"""
        sums = [sum(block.static_bytes for block in blocks) for blocks in self.blocks]
        return np.array(sums, dtype=np.int64)

    @cached_property
    def buffer_bytes(self) -> np.ndarray:
        """Buffers: where a unit runs, also one whose weights wait elsewhere.  # [units], int64"""
        sums = [sum(block.buffer_bytes for block in blocks) for blocks in self.blocks]
        return np.array(sums, dtype=np.int64)

    def activation_bytes(self, tokens: int, batch: int) -> np.ndarray:
        """What each needs while it runs; members of a unit run one at a time.  # [units], int64"""
        known = self._known_activations.get((tokens, batch))
        if known is None:
            kinds, of_unit = self._activation_kinds
            needed = (block.activation_bytes(tokens, batch) for block in kinds)
            most = np.array([min(each, MOST_BYTES) for each in needed], dtype=np.int64)
            known = np.array([most[list(of)].max() for of in of_unit], dtype=np.int64)
            self._known_activations[tokens, batch] = known
        return known

    @cached_property
    def _known_activations(self) -> dict[tuple[int, int], np.ndarray]:
        """Searches ask again and again about the same numbers of tokens."""
        return {}

    @cached_property
    def _activation_kinds(self) -> tuple[list[Block], list[tuple[int, ...]]]:
        """Blocks that differ in what they need, and those that every unit's members are like."""
        kinds: dict[tuple, tuple[int, Block]] = {}
        of_unit = []
        for blocks in self.blocks:
            keys = {(block.activation, block.loading_bytes): block for block in blocks}
            rows = [kinds.setdefault(key, (len(kinds), block))[0] for key, block in keys.items()]
            of_unit.append(tuple(rows))
        return [block for _, block in kinds.values()], of_unit

    @cached_property
    def onload_bytes(self) -> np.ndarray:
        """Room for weights while an offloaded unit runs.  # [units], int64"""
        most = [max(block.onload_bytes for block in blocks) for blocks in self.blocks]
        return np.array(most, dtype=np.int64)

    def is_stage_bound(self, unit: int) -> bool:
        return any(block.stage_bound for block in self.blocks[unit])

    def names(self, units: Sequence[int]) -> tuple[str, ...]:
        """Block names of the units."""
        return tuple(block.name for unit in units for block in self.blocks[unit])

    def cache_bytes(self, tokens: int, batch: int) -> np.ndarray:
        """Cache at that many tokens in each of `batch` sequences.  # [units], int64"""
        cache = np.zeros(len(self), dtype=np.int64)
        units, constants, slopes, windows = self._growth
        held = np.minimum(tokens, windows)
        np.add.at(cache, units, batch * (constants + slopes * held))
        return cache

    def loads_bytes(self, tokens: int, batch: int) -> np.ndarray:
        """Weights, buffers and cache.  # [units], int64"""
        return self.static_bytes + self.cache_bytes(tokens, batch)

    @cached_property
    def _growth(self) -> tuple[np.ndarray, ...]:
        """Unit, constant, slope and window of every cache.  # 4 x [caches]"""
        rows = [
            (unit, growth.constant_bytes, growth.bytes_per_token, _window(growth.window_tokens))
            for unit, blocks in enumerate(self.blocks)
            for block in blocks
            for growth in block.cache
        ]
        return tuple(np.array(rows, dtype=np.int64).reshape(-1, 4).T)


def _window(tokens: int | None) -> int:
    return _NO_WINDOW if tokens is None else tokens


def contract(graph: BlockGraph) -> Units:
    """The units of a graph."""
    leader = {name: name for name in graph.names}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for group in graph.tied:
        for name in group[1:]:
            leader[find(name)] = find(group[0])
    members: dict[str, list[Block]] = defaultdict(list)
    for block in graph.blocks:
        members[find(block.name)].append(block)
    return Units(graph=graph, blocks=tuple(map(tuple, members.values())))


def expand(graph: BlockGraph, units: Units, devices: Sequence[str]) -> dict[str, str]:
    """Block name -> device, in the order of the graph."""
    return {name: devices[units.of[name]] for name in graph.names}
