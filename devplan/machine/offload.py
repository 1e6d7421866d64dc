"""Memory outside the GPUs, only where it was asked for: ``cpu=64GiB``, ``cpu``, ``disk``."""

from __future__ import annotations

from collections.abc import Sequence

from devplan.core import OFFLOAD_DEVICES, InputError, OffloadTier, nearest
from devplan.machine.items import read_size


def read_tiers(offload: Sequence[str]) -> tuple[OffloadTier, ...]:
    """The tiers of ``--offload``, fastest first.

    Parameters
    ----------
    offload
        Items such as ``cpu=64GiB``, ``cpu`` (no bound is known) or ``disk``; an item may hold
        several, separated by commas.

    Raises
    ------
    InputError
        When a tier is unknown, named twice, or has no room.
    """
    parts = [part.strip() for item in offload for part in item.split(",")]
    tiers: dict[str, OffloadTier] = {}
    for part in parts:
        tier = _read_tier(part)
        if tier.device in tiers:
            raise InputError(f"--offload names {tier.device} twice; give it once with its size")
        tiers[tier.device] = tier
    return tuple(tiers[device] for device in OFFLOAD_DEVICES if device in tiers)


def _read_tier(text: str) -> OffloadTier:
    left, equals, right = text.partition("=")
    device = left.strip().lower()
    if device not in OFFLOAD_DEVICES:
        hint = nearest(device, OFFLOAD_DEVICES)
        raise InputError(
            f"--offload {text or repr(text)} is no tier{hint or ';'} "
            "give cpu, cpu=64GiB, disk or disk=200GiB"
        )
    if not equals:
        return OffloadTier(device=device, capacity_bytes=None)
    capacity = read_size(right, f"--offload {device}")
    if capacity == 0:
        raise InputError(f"--offload {text} gives no room; give a size, or leave it out")
    return OffloadTier(device=device, capacity_bytes=capacity)
