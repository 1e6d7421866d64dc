"""Devices as the user types them: the one place where ``0`` becomes ``cuda:0``."""

from __future__ import annotations

from devplan.core.errors import InputError
from devplan.core.types import OFFLOAD_DEVICES, Machine


def normalise_device(text: str | int, machine: Machine) -> str:
    """The machine's own name of a device typed as ``0``, ``cuda:0``, ``cpu`` or ``disk``.

    Raises
    ------
    InputError
        When the machine has no such card, or that kind of offloading was not allowed.
    """
    typed = str(text).strip().lower()
    if typed in OFFLOAD_DEVICES:
        if typed in (tier.device for tier in machine.tiers):
            return typed
        raise InputError(
            f"{typed} may not be used: nothing is offloaded unless asked for; "
            f"add --offload {typed}" + ("=64GiB" if typed == "cpu" else "")
        )
    for device in machine.devices:
        if typed in (device, device.rpartition(":")[2]):
            return device
    raise InputError(f"no device {text} in this machine; it has {', '.join(machine.devices)}")
