"""Blocks that are placed together, as one: `contract` and its inverse.

Tied blocks share a tensor and must share a device, so each group of tied blocks becomes one *unit*
at the position of its first member; every other block is a unit of its own.  Groups that overlap
are one.  `expand` turns devices of units back into devices of blocks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from devplan.core import Block, BlockGraph

MOST_BYTES = 2**60
"""More than any card has: what grows with the square of the tokens leaves 64 bits at the longest
contexts that are tried."""
_NO_WINDOW = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, eq=False, kw_only=True)
class Units:
    """The blocks of a graph with tied ones merged, in execution order."""

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
    return Units(blocks=tuple(map(tuple, members.values())))


def expand(graph: BlockGraph, units: Units, devices: Sequence[str]) -> dict[str, str]:
    """Block name -> device, in the order of the graph."""
    return {name: devices[units.of[name]] for name in graph.names}
