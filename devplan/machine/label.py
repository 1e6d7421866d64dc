"""A short name of a machine for file names: ``24+12gib``, ``2xa100-80gb+rtx-4090``.

It is made of the cards in their order, runs of the same card counted, and holds only lower-case
letters, digits and ``.+-_``.  Cards whose numbers are not 0, 1, 2, ... add them
(``2x24gib-on-2-3``), since a map for other numbers is another map, and a main device that is not
the first card is added too (``24+12gib-main-1``).  Reserve and offload are not part of it.  A
machine of many different cards gets its number of cards and a digest, so that a file name stays a
file name.
"""

from __future__ import annotations

import hashlib
import re
from itertools import groupby

from devplan.catalog import gpus
from devplan.core import Machine, is_size

MAX_LENGTH = 60
"""Leaves room for the model and the workload in the 255 bytes of a file name."""


def machine_label(machine: Machine) -> str:
    """The label; the same machine always gives the same."""
    names = [_short(card.name) for card in machine.cards]
    runs = [(name, len(list(group))) for name, group in groupby(names)]
    counted = [f"{count}x{name}" if count > 1 else name for name, count in runs]
    label = _join(counted) + _numbers(machine.devices) + _main(machine)
    if len(label) <= MAX_LENGTH:
        return label
    digest = hashlib.sha256(label.encode()).hexdigest()[:8]
    return f"{len(names)}cards-{digest}"


def _short(name: str) -> str:
    """Catalogue id of a card that the driver named, else its own name made safe."""
    gpu = gpus.known_gpu(name)
    if gpu is not None:
        name = gpu.id
    elif not is_size(name):
        name = name.removeprefix("NVIDIA ").removeprefix("GeForce ")
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "gpu"


def _join(parts: list[str]) -> str:
    """``24gib+12gib`` as ``24+12gib``: a unit stands once behind sizes of the same unit."""
    units = [re.fullmatch(r"(?:\d+x)?[\d.]+([kmgt]?i?b)", part) for part in parts]
    words = []
    for place, (part, match) in enumerate(zip(parts, units, strict=True)):
        following = units[place + 1] if place + 1 < len(parts) else None
        same = match and following and match[1] == following[1]
        words.append(part.removesuffix(match[1]) if same else part)
    return "+".join(words)


def _numbers(devices: tuple[str, ...]) -> str:
    if devices == tuple(f"cuda:{number}" for number in range(len(devices))):
        return ""
    return "-on-" + "-".join(device.removeprefix("cuda:") for device in devices)


def _main(machine: Machine) -> str:
    """Where inputs enter decides the map too; named where it is not the first card."""
    if machine.main_device == machine.cards[0].device:
        return ""
    return "-main-" + machine.main_device.removeprefix("cuda:")
