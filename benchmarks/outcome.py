"""What a device map puts on the cards, counted in the same way for every planner.

Bytes are those of devplan's profile.  A block lies where the longest entry over it says; where a
map divides a block, each of its tensors is counted where its own entry says, and its cache where
its first tensor lies.  A block on ``disk`` runs on the main device, so its cache lies there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.models import Model
from devplan.core.devices import from_hf_device_map
from devplan.core.names import find_entry
from devplan.core.types import DISK, Machine
from devplan.models.blocks import BlockSite

MOST = 2**31
"""Beyond any context: a cache that still fits here does not fill a card."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Bytes by device, and the way through the devices."""

    weights: Mapping[str, int]
    """Device (``disk`` too) -> weights and buffers."""
    cache_of: Mapping[str, str]
    """Block -> device where its cache lies."""
    route: tuple[str, ...]
    """Devices of embedding, layers, norm and head, in execution order."""
    model: Model
    machine: Machine

    @property
    def weights_share(self) -> float:
        return max(self.weights.get(c.device, 0) / c.budget_bytes for c in self.machine.cards)

    def share(self, tokens: int) -> float:
        """Largest load of weights and cache as a share of its card."""
        held = self._held(tokens)
        return max(held[card.device] / card.budget_bytes for card in self.machine.cards)

    @property
    def disk_bytes(self) -> int:
        return self.weights.get(DISK, 0)

    @property
    def num_changes(self) -> int:
        return sum(a != b for a, b in itertools.pairwise(self.route))

    @property
    def most_tokens(self) -> int | None:
        """Tokens at which the first card is full: 0 when the weights alone overflow one, None
        when no number of tokens fills any."""
        if self.share(0) > 1:
            return 0
        if self.share(MOST) <= 1:
            return None
        low, high = 0, MOST
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.share(middle) <= 1 else (low, middle)
        return low

    def _held(self, tokens: int) -> dict[str, int]:
        held = {card.device: self.weights.get(card.device, 0) for card in self.machine.cards}
        for name, device in self.cache_of.items():
            held[device] += self.model.graph.block(name).cache_bytes(tokens)
        return held


def outcome(model: Model, machine: Machine, device_map: dict[str, str]) -> Outcome:
    """Count a device map, devplan's or a peer's."""
    named = from_hf_device_map(device_map)
    weights: dict[str, int] = {}
    first: dict[str, str] = {}
    for site in model.profile.sites:
        for device, num_bytes in _parts(model, site, named):
            weights[device] = weights.get(device, 0) + num_bytes
            first.setdefault(site.name, device)
    main = machine.main_device
    runs_on = {name: main if device == DISK else device for name, device in first.items()}
    return Outcome(
        weights=weights,
        cache_of={block.name: runs_on[block.name] for block in model.graph.blocks if block.cache},
        route=tuple(runs_on[name] for name in route(model) if name in runs_on),
        model=model,
        machine=machine,
    )


def route(model: Model) -> list[str]:
    """Embedding, layers of the main run, what runs between them and the head, head."""
    graph = model.graph
    ran = [block for block in graph.blocks if block.name not in graph.unexecuted]
    last = max((i for i, block in enumerate(ran) if block.stage_bound), default=-1)
    return [
        block.name
        for index, block in enumerate(ran)
        if block.stage_bound or block.name in (graph.embedding, graph.head) or index > last
    ]


def _parts(model: Model, site: BlockSite, named: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """(device, bytes) of a block: one, or one a tensor where the map divides it."""
    entry = find_entry(named, site.name)
    static_bytes = model.graph.block(site.name).static_bytes
    if entry is not None:
        yield named[entry], static_bytes
    elif static_bytes:  # a second name of a tied tensor holds nothing and may have no entry
        tensors = itertools.chain(site.module.named_parameters(), site.module.named_buffers())
        for name, tensor in tensors:
            inner = find_entry(named, f"{site.name}.{name}")
            yield named[inner], tensor.numel() * tensor.element_size()
