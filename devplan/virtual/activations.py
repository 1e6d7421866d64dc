"""What each block's code needs on a device beside weights and cache: activations and temporaries.

At the fullest moment of a block's call a device holds its weights, the cache that the blocks have
left so far, the block's own included, and the rest.  The rest is what is noted here, the largest
of all calls of a block in a phase.  A card that has the blocks of a plan therefore needs

    weights + cache + the largest rest of its blocks

Code between the blocks (masks, merging of image features, the choice of the next token) is noted
under the empty name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from devplan.core import BlockActivation
from devplan.virtual.labels import label_of, maker_of
from devplan.virtual.memory import MemoryMeter, rounded

BETWEEN = ""
"""Name under which the code between the blocks is noted."""

Bytes = Mapping[torch.device, int]


class ActivationMeter:
    """Watches the calls of blocks; one for a run."""

    def __init__(self, meter: MemoryMeter) -> None:
        self._meter = meter
        self._weights: Bytes = {}
        self._kept: dict[torch.device, int] = {}
        self._most: dict[tuple[str, str, torch.device], int] = {}
        self._depth = 0
        self._watch: dict | None = None

    def start(self) -> None:
        """The weights are there, the run begins."""
        self._weights = self._meter.now()
        self._watch = self._meter.start_peaks()

    def enter(self, phase: str) -> None:
        """A block is about to be called."""
        if self._depth == 0 and self._watch is not None:
            self._note(BETWEEN, phase, self._meter.end_peaks(self._watch))
        self._depth += 1

    def leave(self, block: str, phase: str, highest: Bytes, kept: Bytes) -> None:
        """A block was called: its fullest moment, and the bytes that it left behind."""
        for device, num_bytes in kept.items():
            self._kept[device] = self._kept.get(device, 0) + num_bytes
        self._note(block, phase, highest)
        self._depth -= 1
        if self._depth == 0:
            self._watch = self._meter.start_peaks()

    def turn(self, phase: str) -> None:
        """A phase ends between two blocks; what comes next belongs to another."""
        if self._depth == 0 and self._watch is not None:
            self._note(BETWEEN, phase, self._meter.end_peaks(self._watch))
            self._watch = self._meter.start_peaks()

    def stop(self, phase: str) -> None:
        """The run has ended, by itself or not."""
        if self._watch is not None:
            self.enter(phase)

    def found(self) -> tuple[BlockActivation, ...]:
        return tuple(
            BlockActivation(block=block, phase=phase, device=str(device), num_bytes=num_bytes)
            for (block, phase, device), num_bytes in self._most.items()
        )

    def _note(self, block: str, phase: str, highest: Bytes) -> None:
        for device, high in highest.items():
            rest = high - self._weights.get(device, 0) - self._kept.get(device, 0)
            key = (block, phase, device)
            if rest > self._most.get(key, 0):
                self._most[key] = rest


def given_bytes(result: Any, block: str) -> dict[torch.device, int]:
    """Bytes of the tensors that a block gives and made itself."""
    found: dict[torch.device, int] = {}
    counted: set[int] = set()
    for leaf in tree_leaves(result):
        if isinstance(leaf, torch.Tensor) and maker_of(leaf) == block:
            device, storage = label_of(leaf), leaf.untyped_storage()
            if device is not None and id(storage) not in counted:
                counted.add(id(storage))
                found[device] = found.get(device, 0) + rounded(storage.nbytes())
    return found


def beyond(before: Bytes, after: Bytes, given: Bytes | None = None) -> dict[torch.device, int]:
    """Bytes on every device after, less those before and those given."""
    given = given or {}
    return {d: now - before.get(d, 0) - given.get(d, 0) for d, now in after.items()}
