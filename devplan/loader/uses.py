"""What lies on each device, beside what the map foretells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch

from devplan.core import format_bytes
from devplan.loader.differences import AuditDifference, DeviceUse
from devplan.loader.hooks import device_text
from devplan.loader.target import Target
from devplan.loader.waiting import Waiting, storage_of

# Weights and buffers of a map are those of the model's own tensors, so they agree to the byte; a
# hundredth is chosen for what a class makes otherwise when it is loaded.
MOST_ABOVE = 0.01


def placed_bytes(tensors: Iterable[tuple[str, torch.Tensor]], waiting: Waiting) -> dict[str, int]:
    """Bytes of a model by device, each storage once."""
    placed: dict[str, int] = {}
    seen = set()
    for name, tensor in tensors:
        device, identity = device_text(tensor.device), storage_of(tensor)
        if tensor.is_meta:
            device, identity = waiting.tier(name) or "meta", waiting.identity(name) or name
        if (device, identity) in seen:
            continue
        seen.add((device, identity))
        placed[device] = placed.get(device, 0) + _num_bytes(tensor)
    return placed


def staying_bytes(tensors: Iterable[tuple[str, torch.Tensor]], target: Target) -> dict[str, int]:
    """Bytes by device of buffers that lie where their offloaded module runs, each storage once.

    accelerate offloads parameters alone; a map counts a block whole where its entry is.
    """
    staying: dict[str, int] = {}
    seen = set()
    for name, tensor in tensors:
        wanted = target.device_of(name)
        if tensor.is_meta or wanted is None or not target.is_offloaded(wanted):
            continue
        if (identity := storage_of(tensor)) not in seen:
            seen.add(identity)
            device = device_text(tensor.device)
            staying[device] = staying.get(device, 0) + _num_bytes(tensor)
    return staying


def uses_of(placed: Mapping[str, int], target: Target) -> tuple[DeviceUse, ...]:
    """What was placed on each device, beside what the map foretells."""
    predicted = target.static_bytes()
    return tuple(
        DeviceUse(
            device=device,
            predicted_bytes=predicted.get(device),
            placed_bytes=placed.get(device, 0),
            allocated_bytes=_allocated_bytes(device),
        )
        for device in sorted({*placed, *predicted})
    )


def memory_differences(
    uses: Iterable[DeviceUse], staying: Mapping[str, int]
) -> Iterator[AuditDifference]:
    """Devices that hold more than the map was proven for, and buffers that stay there."""
    for use in uses:
        if use.predicted_bytes is None or use.device == "meta":
            continue
        expected = use.predicted_bytes + staying.get(use.device, 0)
        if use.placed_bytes > expected * (1 + MOST_ABOVE):
            yield AuditDifference(
                kind="memory",
                name=use.device,
                text=f"{use.device} holds {format_bytes(use.placed_bytes)} of weights and buffers, "
                f"the map foretells {format_bytes(expected)}",
            )


def _num_bytes(tensor: torch.Tensor) -> int:
    """A tensor that stands for others (packed weights of torchao) is as large as these."""
    if hasattr(tensor, "__tensor_flatten__"):
        return sum(_num_bytes(getattr(tensor, part)) for part in tensor.__tensor_flatten__()[0])
    return tensor.numel() * tensor.element_size()


def _allocated_bytes(device: str) -> int | None:
    if not device.startswith("cuda:") or not torch.cuda.is_available():
        return None
    return torch.cuda.memory_allocated(device)
