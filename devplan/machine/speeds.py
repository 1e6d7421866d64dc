"""How fast a card is, by its name in the catalogue: of a bare size nothing is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from devplan.catalog import Gpu, gpus
from devplan.core import Card, InputError, Machine, is_size

MEMORY_SHARE = 0.8
"""Of the bandwidth on the data sheet, what reading weights reaches.  [choice] between the copy of a
card to itself (NVIDIA's p2pBandwidthLatencyTest reads and writes 2,500 of 3,350 GB/s on an H100,
0.75, https://github.com/NVIDIA/nccl/issues/1264, and 920 of 1,008 on an RTX 4090, 0.91,
https://github.com/tinygrad/open-gpu-kernel-modules/issues/6); not measured by devplan."""

FLOPS_SHARE = 0.5
"""Of the flops on the data sheet, what a prefill reaches.  [choice] Megatron-LM trained at 43 to
52 % of an A100's peak (D. Narayanan et al., "Efficient Large-Scale Language Model Training on GPU
Clusters Using Megatron-LM", SC21, table 1), with products as large as those of a prefill; not
measured by devplan."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What a card reaches."""

    bytes_per_s: float
    """Reading its own memory."""
    flops_per_s: float
    """Matrix products in 16 bits."""

    def seconds(self, flops: float, read_bytes: float) -> float:
        """The roofline: arithmetic and reading go on at the same time."""
        return max(flops / self.flops_per_s, read_bytes / self.bytes_per_s)


def gpu_of(card: Card) -> Gpu | None:
    """The catalogue's entry of a card; None for a bare size and for unknown names."""
    return _gpu_named(card.name)


@lru_cache(maxsize=256)
def _gpu_named(name: str) -> Gpu | None:
    if is_size(name):
        return None
    try:
        return gpus.find_gpu(name)
    except InputError:  # a driver may report a name that the catalogue does not have
        return None


def speed_of(card: Card) -> Speed | None:
    """None where the catalogue does not know the card, or not its speed."""
    gpu = gpu_of(card)
    if gpu is None or gpu.tflops is None:
        return None
    return Speed(
        bytes_per_s=MEMORY_SHARE * gpu.bandwidth_gb_s * 10**9,
        flops_per_s=FLOPS_SHARE * gpu.tflops * 10**12,
    )


def speeds_of(machine: Machine) -> tuple[Speed, ...]:
    """The speed of every card.

    Raises
    ------
    InputError
        When that of a card is not known: what a plan for speed chooses would then be arbitrary.
    """
    speeds = [speed_of(card) for card in machine.cards]
    unknown = [c for c, speed in zip(machine.cards, speeds, strict=True) if speed is None]
    if unknown:
        names = ", ".join(f"{card.device} ({card.name})" for card in unknown)
        raise InputError(
            f"--objective latency needs the speed of every card, and that of {names} is not known; "
            "name cards of the catalogue, such as --gpus a100-80gb,rtx-4090"
        )
    return tuple(speeds)
