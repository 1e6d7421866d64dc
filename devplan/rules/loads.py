"""What a map puts on each device, by part.

A tensor counts once on a device, tied ones in every device that holds one of their names.  The
cache of a block lies where the block is computed.  What is offloaded comes to the main device
block by block: room for the largest is needed there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from devplan.core import OFFLOAD_DEVICES, DeviceMemory, device_map_of
from devplan.rules.context import CheckContext


def device_loads(context: CheckContext) -> dict[str, DeviceMemory]:
    """Memory of every device of the map but offload devices.

    Activations are those of the fullest moment of the runs at the workload, or of loading where
    that needs more.
    """
    weights, buffers = tensor_bytes(context)
    cache = _cache_bytes(context)
    onload = {context.main_device: _onload_bytes(context)}
    peaks, loading = _peak_bytes(context), _loading_bytes(context)
    devices = [d for d in (*context.devices, context.main_device) if d not in OFFLOAD_DEVICES]
    return {
        device: DeviceMemory(
            device=device,
            weight_bytes=weights.get(device, 0),
            buffer_bytes=buffers.get(device, 0),
            cache_bytes=cache.get(device, 0),
            onload_bytes=onload.get(device, 0),
            # The run has brought the weights of offloaded blocks too.
            activation_bytes=max(
                peaks.get(device, 0) - onload.get(device, 0), loading.get(device, 0)
            ),
        )
        for device in dict.fromkeys(devices)
    }


def fits_after(
    context: CheckContext, changed: Mapping[str, str], dropped: Collection[str] = ()
) -> bool:
    """Whether a repair overflows no card that it adds to, as far as their sizes are known.

    Activations are taken to stay where the runs showed them.
    """
    if context.machine is None:
        return True
    kept = {key: device for key, device in context.device_map.items() if key not in dropped}
    repaired = replace(context, map=device_map_of({**kept, **changed}))
    before, after = device_loads(context), device_loads(repaired)
    return all(
        after[card.device].peak_bytes <= card.budget_bytes
        for card in context.machine.cards
        if card.device in after
        and after[card.device].peak_bytes
        > before.get(card.device, DeviceMemory(device=card.device)).peak_bytes
    )


def tensor_bytes(context: CheckContext) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes of parameters and of buffers on every device of the map."""
    counted: set[tuple[str, str]] = set()
    weights: dict[str, int] = {}
    buffers: dict[str, int] = {}
    for tensor in context.structure.tensors.values():
        device = context.device_of(tensor.name)
        if not tensor.is_parameter:  # accelerate offloads parameters only
            device = context.execution_device(device)
        if device is None or (tensor.first_name, device) in counted:
            continue
        counted.add((tensor.first_name, device))
        total = weights if tensor.is_parameter else buffers
        total[device] = total.get(device, 0) + tensor.num_bytes
    return weights, buffers


def _cache_bytes(context: CheckContext) -> dict[str, int]:
    cache: dict[str, int] = {}
    workload = context.workload
    for block in context.structure.graph.blocks:
        device = context.execution_device(context.device_of(block.name))
        if device is not None and block.cache:
            size = block.cache_bytes(workload.tokens, workload.batch)
            cache[device] = cache.get(device, 0) + size
    return cache


def _onload_bytes(context: CheckContext) -> int:
    return max(
        (
            block.onload_bytes
            for block in context.structure.graph.blocks
            if context.device_of(block.name) in OFFLOAD_DEVICES
        ),
        default=0,
    )


def _loading_bytes(context: CheckContext) -> dict[str, int]:
    """The most that a parameter takes beside itself while it is loaded to a device."""
    most: dict[str, int] = {}
    for block in context.structure.graph.blocks:
        device = context.device_of(block.name)
        if device is not None:
            most[device] = max(most.get(device, 0), block.loading_bytes)
    return most


def _peak_bytes(context: CheckContext) -> dict[str, int]:
    """What the runs at the workload needed beyond weights and cache."""
    peaks: dict[str, int] = {}
    for run in context.runs:
        for peak in () if run.is_short else run.peaks:
            beyond = peak.peak_bytes - peak.weight_bytes - peak.cache_bytes
            peaks[peak.device] = max(peaks.get(peak.device, 0), beyond)
    return peaks
