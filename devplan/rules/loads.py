"""What a map puts on each device, by part.

A tensor counts once on a device, tied ones in every device that holds one of their names.  The
cache of a block lies where the block is computed.  What is offloaded comes to the main device
block by block: room for the largest is needed there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from devplan.core import OFFLOAD_DEVICES, device_map_of
from devplan.rules.context import CheckContext


@dataclass(frozen=True, kw_only=True)
class DeviceLoad:
    """Bytes on one device."""

    weight_bytes: int = 0
    buffer_bytes: int = 0
    cache_bytes: int = 0
    onload_bytes: int = 0
    peak_bytes: int = 0
    """Activations and temporaries at the fullest moment of the runs at the workload, or where that
    is more, of loading."""

    @property
    def static_bytes(self) -> int:
        """What is there between two forwards."""
        return self.weight_bytes + self.buffer_bytes + self.cache_bytes + self.onload_bytes

    @property
    def needed_bytes(self) -> int:
        """What is there at the fullest moment."""
        return self.static_bytes + self.peak_bytes


def device_loads(subject: CheckContext) -> dict[str, DeviceLoad]:
    """Load of every device of the map that is no offload device."""
    weights, buffers = tensor_bytes(subject)
    cache = _cache_bytes(subject)
    onload = {subject.main_device: _onload_bytes(subject)}
    peaks, loading = _peak_bytes(subject), _loading_bytes(subject)
    devices = [d for d in (*subject.devices, subject.main_device) if d not in OFFLOAD_DEVICES]
    return {
        device: DeviceLoad(
            weight_bytes=weights.get(device, 0),
            buffer_bytes=buffers.get(device, 0),
            cache_bytes=cache.get(device, 0),
            onload_bytes=onload.get(device, 0),
            # The run has brought the weights of offloaded blocks too.
            peak_bytes=max(peaks.get(device, 0) - onload.get(device, 0), loading.get(device, 0)),
        )
        for device in dict.fromkeys(devices)
    }


def fits_after(
    subject: CheckContext, changed: Mapping[str, str], dropped: Collection[str] = ()
) -> bool:
    """Whether a repair overflows no card that it adds to, as far as their sizes are known.

    Activations are taken to stay where the runs showed them.
    """
    if subject.machine is None:
        return True
    kept = {key: device for key, device in subject.device_map.items() if key not in dropped}
    repaired = replace(subject, map=device_map_of({**kept, **changed}))
    before, after = device_loads(subject), device_loads(repaired)
    return all(
        after[card.device].needed_bytes <= card.budget_bytes
        for card in subject.machine.cards
        if card.device in after
        and after[card.device].needed_bytes > before.get(card.device, DeviceLoad()).needed_bytes
    )


def tensor_bytes(subject: CheckContext) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes of parameters and of buffers on every device of the map."""
    counted: set[tuple[str, str]] = set()
    weights: dict[str, int] = {}
    buffers: dict[str, int] = {}
    for tensor in subject.structure.tensors.values():
        device = subject.device_of(tensor.name)
        if not tensor.is_parameter:  # accelerate offloads parameters only
            device = subject.execution_device(device)
        if device is None or (tensor.first_name, device) in counted:
            continue
        counted.add((tensor.first_name, device))
        total = weights if tensor.is_parameter else buffers
        total[device] = total.get(device, 0) + tensor.num_bytes
    return weights, buffers


def _cache_bytes(subject: CheckContext) -> dict[str, int]:
    cache: dict[str, int] = {}
    workload = subject.workload
    for block in subject.structure.graph.blocks:
        device = subject.execution_device(subject.device_of(block.name))
        if device is not None and block.cache:
            size = block.cache_bytes(workload.context_tokens, workload.batch)
            cache[device] = cache.get(device, 0) + size
    return cache


def _onload_bytes(subject: CheckContext) -> int:
    return max(
        (
            block.onload_bytes
            for block in subject.structure.graph.blocks
            if subject.device_of(block.name) in OFFLOAD_DEVICES
        ),
        default=0,
    )


def _loading_bytes(subject: CheckContext) -> dict[str, int]:
    """The most that a parameter takes beside itself while it is loaded to a device."""
    most: dict[str, int] = {}
    for block in subject.structure.graph.blocks:
        device = subject.device_of(block.name)
        if device is not None:
            most[device] = max(most.get(device, 0), block.loading_bytes)
    return most


def _peak_bytes(subject: CheckContext) -> dict[str, int]:
    """What the runs at the workload needed beyond weights and cache."""
    peaks: dict[str, int] = {}
    for run in subject.runs:
        for peak in () if run.is_short else run.peaks:
            beyond = peak.peak_bytes - peak.weight_bytes - peak.cache_bytes
            peaks[peak.device] = max(peaks.get(peak.device, 0), beyond)
    return peaks
