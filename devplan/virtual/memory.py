"""Bytes that live on each virtual device over time: weights, caches and activations.

Every storage counts from the op that made it until its last tensor dies, rounded as the CUDA
caching allocator rounds.  Weights count from the start.  What a folded layer would have added is
added as phantom bytes, which never die within a run: the cache that it would have kept.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from devplan.core import BlockActivation, DevicePeak
from devplan.virtual.labels import label_of, maker_of

ALLOCATION_BYTES = 512
"""Blocks of the caching allocator are multiples of this (kMinBlockSize,
c10/cuda/CUDACachingAllocator.cpp)."""


def rounded(num_bytes: int) -> int:
    """Bytes that the allocator takes for a request."""
    return -(-num_bytes // ALLOCATION_BYTES) * ALLOCATION_BYTES


@dataclass(kw_only=True)
class DeviceMeter:
    """Bytes on one device, now and at the fullest moment."""

    now_bytes: int = 0
    peak_bytes: int = 0
    peak_place: tuple[str, str] = ("", "")
    """Block and phase of the fullest moment."""

    def add(self, num_bytes: int, place: tuple[str, str]) -> None:
        self.now_bytes += num_bytes
        if self.now_bytes > self.peak_bytes:
            self.peak_bytes, self.peak_place = self.now_bytes, place


class _StorageRef(weakref.ref):
    """A reference that remembers what it stood for."""

    __slots__ = ("device", "key", "num_bytes")


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor that has the storage, where ``vmap`` shows one position of it (masks)."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


class MemoryMeter:
    """Counts storages; one for a run."""

    def __init__(self) -> None:
        self.devices: dict[torch.device, DeviceMeter] = defaultdict(DeviceMeter)
        self._alive: dict[int, _StorageRef] = {}

    def count(self, tensor: torch.Tensor, device: torch.device, place: tuple[str, str]) -> None:
        """Count the storage of a tensor on a device, unless it is counted already."""
        storage = whole(tensor).untyped_storage()
        key = id(storage)
        if key in self._alive:
            return
        ref = _StorageRef(storage, self._when_freed)
        ref.key, ref.device, ref.num_bytes = key, device, rounded(storage.nbytes())
        self._alive[key] = ref
        self.devices[device].add(ref.num_bytes, place)

    def add_phantom(self, device: torch.device, num_bytes: int, place: tuple[str, str]) -> None:
        """Bytes of something that was not really run."""
        self.devices[device].add(num_bytes, place)

    def touch(self, device: torch.device, num_bytes: int, place: tuple[str, str]) -> None:
        """Bytes that came and went: only the peak remembers them."""
        self.devices[device].add(num_bytes, place)
        self.devices[device].now_bytes -= num_bytes

    def start_peaks(self) -> dict[torch.device, tuple[int, tuple[str, str]]]:
        """Begin to watch the highest use of each device; give what was highest so far."""
        so_far = {}
        for device, use in self.devices.items():
            so_far[device] = (use.peak_bytes, use.peak_place)
            use.peak_bytes = use.now_bytes
        return so_far

    def end_peaks(
        self, so_far: dict[torch.device, tuple[int, tuple[str, str]]]
    ) -> dict[torch.device, int]:
        """The highest use of each device since `start_peaks`; the older peak counts again."""
        highest = {device: use.peak_bytes for device, use in self.devices.items()}
        for device, (peak_bytes, place) in so_far.items():
            use = self.devices[device]
            if peak_bytes >= use.peak_bytes:  # of equal moments the first is the peak
                use.peak_bytes, use.peak_place = peak_bytes, place
        return highest

    def restart(self) -> None:
        """Forget everything counted so far."""
        self.devices.clear()
        self._alive.clear()

    def now(self) -> dict[torch.device, int]:
        """Bytes that live on each device."""
        return {device: use.now_bytes for device, use in self.devices.items()}

    def _when_freed(self, ref: _StorageRef) -> None:
        if self._alive.get(ref.key) is ref:
            del self._alive[ref.key]
            self.devices[ref.device].now_bytes -= ref.num_bytes


Bytes = Mapping[torch.device, int]


def device_peaks(meter: MemoryMeter, weights: Bytes, cache: Bytes) -> tuple[DevicePeak, ...]:
    """One for every device that something lay on, in the order of their names."""
    return tuple(
        DevicePeak(
            device=str(device),
            weight_bytes=weights.get(device, 0),
            cache_bytes=cache.get(device, 0),
            peak_bytes=use.peak_bytes,
            module=use.peak_place[0],
            phase=use.peak_place[1],
        )
        for device, use in sorted(meter.devices.items(), key=lambda item: str(item[0]))
        if device.type != "meta"
    )


CACHE_FIELDS = (
    "cache",
    "past_key_values",
    "cache_params",
    "state",
    "mems",
    "past_buckets_states",
)
"""Fields of a model output that hold what the next token needs.  Read off the output classes of
transformers 5.23 and 5.24: ``cache`` is the name of every `Cache` from 5.24 on, where the two names
after it still lead to the same object; RWKV and xLSTM, Transformer-XL and XLNet, Reformer."""


def cache_places(output: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in the caches of a model output, each once, by its place in it."""
    seen: set[int] = set()
    for field in CACHE_FIELDS:
        value = output.get(field) if isinstance(output, Mapping) else getattr(output, field, None)
        if value is not None:
            yield from _walk(value, field, seen)


def cache_bytes(output: Any, stands_for: Mapping[str, Collection[str]]) -> dict[torch.device, int]:
    """Bytes of the caches of a model output on each virtual device, folded layers included.

    Parameters
    ----------
    output
        What ``forward`` gave.
    stands_for
        Layer that was run -> layers that were folded into it; what they have put into the cache
        themselves is not counted twice.
    """
    found: dict[torch.device, int] = {}
    storages = set()
    tensors = [tensor for _, tensor in cache_places(output)]
    makers = {maker_of(tensor) for tensor in tensors}
    for tensor in tensors:
        device, storage = label_of(tensor), tensor.untyped_storage()
        if device is not None and id(storage) not in storages:
            storages.add(id(storage))
            num_layers = 1 + len(set(stands_for.get(maker_of(tensor), ())) - makers)
            found[device] = found.get(device, 0) + num_layers * rounded(storage.nbytes())
    return found


def _walk(value: Any, place: str, seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors in nested containers and plain objects; a cache may be any of them."""
    if id(value) in seen or isinstance(value, (type, str)) or _is_part_of_model(value):
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        if value.numel() > 1:  # a single number counts tokens, whatever the batch
            yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, f"{place}.{key}", seen)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _walk(item, f"{place}.{index}", seen)
    elif hasattr(value, "__dict__") and not hasattr(value, "to_diff_dict"):  # no configurations
        for name, item in vars(value).items():
            yield from _walk(item, f"{place}.{name}", seen)


def _is_part_of_model(value: Any) -> bool:
    """A module with parameters; caches themselves were modules in transformers 4.46 to 4.48."""
    return isinstance(value, nn.Module) and next(value.parameters(), None) is not None


# Activations: what a block's code needs on a device beside weights and cache. At the fullest
# moment of a block's call a device holds its weights, the cache that the blocks have left so far,
# the block's own included, and the rest. The largest rest of all calls of a block in a phase is
# noted here. A GPU that has the blocks of a plan therefore needs
#
# weights + cache + the largest rest of its blocks
#
# Code between the blocks (masks, merging of image features, the choice of the next token) is
# noted under the empty name.

BETWEEN = ""
"""Name under which the code between the blocks is noted."""


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
