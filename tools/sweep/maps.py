"""Two maps of a model over two equal cards.

*planned* is what the planner of ``devplan suggest`` makes of weights and caches, before anything
was run: layers over both cards in execution order, embeddings, towers and head on the first. *in
order* fills the first card with half of the bytes, block after block of the module tree, and the
second with the rest, as ``device_map="auto"`` does: towers may be cut, and the head ends on the
second card.

Both cut between blocks only (`devplan.models.blocks`), so that declared classes and layers of
stacks stay whole, and keep tied weights together.  What they show is no fault of the map.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.checker.preparation import Built
from devplan.core.device_map import DeviceMap, device_map_of
from devplan.core.types import Card, Infeasible, Machine
from devplan.core.units import GIB
from devplan.mapfile.of_plan import contract_entries
from devplan.models.blocks import partition
from devplan.planning.instance import PlanRequest
from devplan.planning.planner import plan

_SLACK_BYTES = 16 * GIB
"""Beside the weights, for caches: a map shall never be refused for its size here."""


def machine_for(built: Built) -> Machine:
    """Two cards that each hold the whole model: plans are balanced, and nothing overflows."""
    weights = sum(fact.num_bytes for fact in built.structure.tensors.values())
    cards = tuple(
        Card(
            device=f"cuda:{index}",
            name="virtual GPU",
            capacity_bytes=2 * weights + _SLACK_BYTES,
            reserve_bytes=0,
        )
        for index in range(2)
    )
    return Machine(cards=cards, main_device="cuda:0")


def maps_of(built: Built, machine: Machine) -> Iterator[tuple[str, DeviceMap]]:
    """Name and map, each."""
    planned = plan(built.structure.graph, PlanRequest(machine=machine, workload=built.workload))
    assert not isinstance(planned, Infeasible), "the cards hold twice the model"
    yield "planned", device_map_of(contract_entries(planned.placement), "planned")
    yield "in order", device_map_of(in_order(built), "in order")


def in_order(built: Built) -> dict[str, str]:
    """Entry -> card: the first half of the bytes on the first card."""
    graph = built.structure.graph
    half = sum(block.static_bytes for block in graph.blocks) / 2
    placement: dict[str, str] = {}
    filled = 0
    for site in partition(built.skeleton.model, built.skeleton.no_split):
        size = graph.block(site.name).static_bytes
        # The block that would pass the half goes to the second card; the first is never empty.
        placement[site.name] = f"cuda:{int(bool(filled) and filled + size / 2 > half)}"
        filled += size
    for group in graph.tied:
        placement.update(dict.fromkeys(group, placement[group[0]]))
    return contract_entries(placement)
