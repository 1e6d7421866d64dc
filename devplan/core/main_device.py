"""What a plain ``from_pretrained(device_map=...)`` makes of the main device.

accelerate moves the inputs of the whole model to a main device before anything runs.  It can be
told which (``dispatch_model(main_device=...)``), but transformers does not tell it
(``accelerate_dispatch`` in ``integrations/accelerate.py``, 5.23), and then accelerate takes the
first element of a Python set of the devices in the map (``big_modeling.py``, 1.15).  Of a set of
small integers that is the lowest, whatever the order of the entries.  A map whose main device is
another one still runs: token ids and masks take a detour over the lowest card, and code that
relies on inputs lying beside the embedding may not find them there.

accelerate 0.34 to 1.14 took the first value of the map that is neither cpu nor disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from devplan.core.types import OFFLOAD_DEVICES, Machine


def main_device_notes(devices_in_use: Iterable[str], machine: Machine) -> tuple[str, ...]:
    """What to do where the main device of the plan is not the one that accelerate would take."""
    cards = sorted({_index(device) for device in devices_in_use if device not in OFFLOAD_DEVICES})
    main = _index(machine.main_device)
    if len(cards) < 2 or cards[0] == main:
        return ()
    return (
        f"from_pretrained will send the inputs to cuda:{cards[0]} first and not to the main device "
        f"cuda:{main}: it tells accelerate of no main device, which then takes the lowest index in "
        f"the map; make the main card the lowest (CUDA_VISIBLE_DEVICES={_main_first(main, machine)}"
        " and --gpus in that order), or load on the CPU and call "
        f'accelerate.dispatch_model(model, device_map, main_device="cuda:{main}")',
    )


_SET_SINCE = (1, 15)
"""The first release of accelerate that takes any of a set; tests ask the releases themselves."""


def chosen_by_accelerate(devices: Sequence[str], version: str) -> str | None:
    """The main device for the devices of a map in their order; None where there is no card."""
    cards = [device for device in devices if device not in OFFLOAD_DEVICES]
    if not cards:
        return None
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < _SET_SINCE:
        return cards[0]
    return min(cards, key=_index_of_any)


def _index_of_any(device: str) -> int:
    """The index of a device of any kind; 0 where it has none."""
    index = device.partition(":")[2]
    return int(index) if index.isdecimal() else 0


def _main_first(main: int, machine: Machine) -> str:
    others = (_index(device) for device in machine.devices)
    return ",".join(map(str, [main, *(index for index in others if index != main)]))


def _index(device: str) -> int:
    return int(device.removeprefix("cuda:"))
