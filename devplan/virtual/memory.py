"""Bytes that live on each virtual device over time.

Every storage counts from the op that made it until its last tensor dies, rounded as the CUDA
caching allocator rounds.  Weights count from the start.  What a folded layer would have added is
added as phantom bytes, which never die within a run: the cache that it would have kept.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from dataclasses import dataclass

import torch

ALLOCATION_BYTES = 512
"""Blocks of the caching allocator are multiples of this (kMinBlockSize,
c10/cuda/CUDACachingAllocator.cpp)."""


def rounded(num_bytes: int) -> int:
    """Bytes that the allocator takes for a request."""
    return -(-num_bytes // ALLOCATION_BYTES) * ALLOCATION_BYTES


@dataclass(kw_only=True)
class DeviceUse:
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
        self.devices: dict[torch.device, DeviceUse] = defaultdict(DeviceUse)
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
