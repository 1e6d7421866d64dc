"""The fullest moment of every device in a run, as the record of the run has it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from devplan.core import DevicePeak
from devplan.virtual.memory import MemoryMeter

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
