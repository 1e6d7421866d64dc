"""What the catalogue knows of a card by its name: speed and compute capability."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from devplan.catalog import Gpu, gpus
from devplan.core import Card, InputError, Machine

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
    return gpus.known_gpu(card.name)


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
            f"--objective latency needs the speed of every GPU, and that of {names} is not known; "
            "name GPUs of the catalogue, such as --gpus a100-80gb,rtx-4090"
        )
    return tuple(speeds)


def capability_of(card: Card) -> tuple[int, int] | None:
    """Compute capability by the card's name; None where it is not known."""
    gpu = gpu_of(card)
    return gpu.compute_capability if gpu is not None else None


def least_capability(machine: Machine) -> tuple[int, int] | None:
    """The smallest that is known among the cards; None where none is."""
    known = [found for card in machine.cards if (found := capability_of(card)) is not None]
    return min(known, default=None)


def least_of_all(machines: Iterable[Machine]) -> tuple[int, int] | None:
    """The smallest that is known among the cards of several machines; None where none is."""
    known = [found for each in machines if (found := least_capability(each)) is not None]
    return min(known, default=None)
