"""The map that ``device_map="auto"`` would choose on a machine.

`devplan.checker.baselines` asks the planner that ``from_pretrained`` asks.  What does not
fit on the cards goes to the CPU, as it does there; its memory is taken as unbounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devplan.checker.baselines import CPU_TOO, from_pretrained_strategy
from devplan.checker.baselines import STRATEGIES as STRATEGIES
from devplan.core import DeviceMap, InputError, Machine, device_map_of, nearest

if TYPE_CHECKING:
    from devplan.models import Skeleton


def inferred_map(strategy: str, skeleton: Skeleton, machine: Machine | None) -> DeviceMap:
    """What ``from_pretrained`` would make of ``device_map=strategy``.

    Raises
    ------
    InputError
        For another strategy, or without a machine.
    """
    if strategy not in STRATEGIES:
        raise InputError(
            f"--device-map {strategy!r} is none of {', '.join(STRATEGIES)}"
            f"{nearest(strategy, STRATEGIES)}"
        )
    if machine is None:
        raise InputError(f"--device-map {strategy} needs the cards; give --gpus 24GiB,12GiB")
    from devplan.models import of_the_library

    said = f"device_map={strategy!r} cannot be had: the libraries' own planner raised"
    with of_the_library(said, "name a map file, or make one with devplan suggest"):
        chosen = from_pretrained_strategy(
            strategy, skeleton.model, machine, CPU_TOO, skeleton.no_split
        )
    return device_map_of(chosen, f"device_map={strategy!r}")
