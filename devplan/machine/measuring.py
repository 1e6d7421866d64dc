"""Links of the GPUs of this machine, by timing copies between them.

Copies are made as accelerate's hooks make them: ``tensor.to(device)``, from pageable memory where
the host takes part.  The bandwidth is that of a large copy, the latency that of one of a few bytes,
each the median of several; both are rounded to two digits, so that two measurements of one machine
give one map.  Only ``--links measured`` asks for it: it makes a CUDA context on every card.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING

from devplan.core import CPU, MIB, Card, InputError, Link, Machine
from devplan.machine.speeds import gpu_of

if TYPE_CHECKING:
    import torch

LARGE_BYTES = 64 * MIB
"""10 ms over the slowest link that is in use, PCIe 3.0 x8; latencies are 0.1 % of that."""
SMALL_BYTES = 16
NUM_COPIES = 7


def measured_links(machine: Machine) -> tuple[Link, ...]:
    """The links of all pairs of cards, and of each card with the host.

    Raises
    ------
    InputError
        When the cards are not the GPUs of this machine.
    """
    import torch

    _refuse_others(machine, torch.cuda.device_count(), torch)
    pairs = combinations(machine.cards, 2)
    joined = tuple(_measured(a.device, b.device, _way(a, b, torch), torch) for a, b in pairs)
    hosts = tuple(_measured(card.device, CPU, "host memory", torch) for card in machine.cards)
    return joined + hosts


def _refuse_others(machine: Machine, seen: int, torch) -> None:
    for card in machine.cards:
        index = int(card.device.removeprefix("cuda:"))
        here = torch.cuda.get_device_properties(index) if index < seen else None
        if here is None or (here.name, here.total_memory) != (card.name, card.capacity_bytes):
            raise InputError(
                f"--links measured times copies between GPUs of this machine (torch sees {seen}), "
                f"and {card.device} ({card.name}) is none; name local ones (--gpus 0,1) or give "
                "the links, such as --links pcie4x16"
            )


def _way(a: Card, b: Card, torch) -> str:
    """What the copies went over, as far as the driver tells."""
    first, second = (int(card.device.removeprefix("cuda:")) for card in (a, b))
    if not torch.cuda.can_device_access_peer(first, second):
        return "through the host"
    has_nvlink = all((gpu := gpu_of(card)) is not None and gpu.nvlink_gb_s for card in (a, b))
    return "from card to card, NVLink or PCIe" if has_nvlink else "PCIe from card to card"


def _measured(source: str, target: str, way: str, torch) -> Link:
    """The slower direction counts."""
    ends = ((source, target), (target, source))
    latency_s = max(copy_seconds(a, b, SMALL_BYTES, torch) for a, b in ends)
    large_s = max(copy_seconds(a, b, LARGE_BYTES, torch) for a, b in ends)
    bandwidth = LARGE_BYTES / max(large_s - latency_s, 1e-9)
    return Link(
        source=source,
        target=target,
        name=f"{way} (measured)",
        bytes_per_s=int(_two_digits(bandwidth)),
        latency_s=_two_digits(latency_s),
        basis="measured",
    )


def copy_seconds(source: str, target: str, num_bytes: int, torch) -> float:
    """Median time of a copy, until it has arrived."""
    tensor = torch.empty(num_bytes, dtype=torch.uint8, device=source)
    cards = [device for device in (source, target) if device != CPU]

    def copy() -> torch.Tensor:
        copied = tensor.to(target)
        for card in cards:
            torch.cuda.synchronize(card)
        return copied

    copy()  # the first one opens peer access and takes memory from the driver
    return statistics.median(_timed(copy) for _ in range(NUM_COPIES))


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")
