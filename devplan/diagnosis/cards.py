"""Memory of the cards when something failed, beside what the map said.

Only counters are read.  Where there is no CUDA, or it was never started, or it has failed so badly
that it does not answer, what is known is the prediction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from devplan.core import parse_whole
from devplan.diagnosis.failure_report import CardMemory


def card_memory(devices: Iterable[str], predicted: Mapping[str, int]) -> tuple[CardMemory, ...]:
    """One entry for every card that the map names or that this process has memory on."""
    named = {device for device in (*devices, *predicted) if device.startswith("cuda:")}
    present = _present()
    shown = sorted(named | set(present), key=lambda device: parse_whole(device.partition(":")[2]))
    return tuple(_card(device, predicted.get(device), device in present) for device in shown)


def _present() -> tuple[str, ...]:
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return ()
    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))


def _card(device: str, predicted_bytes: int | None, is_present: bool) -> CardMemory:
    if not is_present:
        return CardMemory(device=device, predicted_bytes=predicted_bytes)
    free, total = _driver(device)
    return CardMemory(
        device=device,
        total_bytes=total,
        free_bytes=free,
        allocated_bytes=torch.cuda.memory_allocated(device),
        reserved_bytes=torch.cuda.memory_reserved(device),
        predicted_bytes=predicted_bytes,
    )


def _driver(device: str) -> tuple[int | None, int | None]:
    """Free and total bytes; not known once an earlier failure has broken the context."""
    try:
        return torch.cuda.mem_get_info(device)
    except RuntimeError:
        return None, None
