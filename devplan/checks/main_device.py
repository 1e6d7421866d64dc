"""Which device accelerate takes as main when it is told only the map.

``dispatch_model`` (``accelerate/big_modeling.py``): until 1.13 the first value of the map that is
neither cpu nor disk; since then the first of a Python *set* of these, which for small integers, as
``hf_device_map`` has them, is the lowest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from devplan.types import OFFLOAD_DEVICES

_SET_SINCE = (1, 14)


def chosen_by_accelerate(devices: Sequence[str], version: str) -> str | None:
    """The main device for the devices of a map in their order; None where there is no card."""
    cards = [device for device in devices if device not in OFFLOAD_DEVICES]
    if not cards:
        return None
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < _SET_SINCE:
        return cards[0]
    return min(cards, key=_index)


def _index(device: str) -> int:
    index = device.partition(":")[2]
    return int(index) if index.isdecimal() else 0
