"""The map that ``device_map="auto"`` would choose on a machine.

accelerate's own functions decide (`get_balanced_memory`, `infer_auto_device_map`), on the skeleton,
with every card's whole capacity: on a free GPU it asks the driver for the free memory.  What does
not fit goes to the CPU, as it does there; its memory is taken as unbounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devplan.checks.given import GivenMap, given_map
from devplan.errors import InputError, nearest
from devplan.types import CPU, Machine
from devplan.units import TIB

if TYPE_CHECKING:
    from devplan.skeleton import Skeleton

STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")

# More than any model needs; accelerate wants a number.
_UNBOUNDED = 1024 * TIB


def inferred_map(strategy: str, skeleton: Skeleton, machine: Machine | None) -> GivenMap:
    """What accelerate would make of ``device_map=strategy``.

    Raises
    ------
    InputError
        For another strategy, or without a machine.
    """
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory, modeling

    from devplan.virtual.numbered import cards_by_number
    from devplan.virtual.quiet import quiet

    if strategy not in STRATEGIES:
        raise InputError(
            f"--device-map {strategy!r} is none of {', '.join(STRATEGIES)}"
            f"{nearest(strategy, STRATEGIES)}"
        )
    if machine is None:
        raise InputError(f"--device-map {strategy} needs the cards; give --gpus 24GiB,12GiB")
    no_split = sorted(skeleton.no_split)
    memory: dict[int | str, int] = {
        index: card.capacity_bytes for index, card in enumerate(machine.cards)
    }
    memory[CPU] = _UNBOUNDED
    with cards_by_number(modeling), quiet():  # accelerate warns that the cards are not here
        if strategy != "sequential":
            memory = get_balanced_memory(
                skeleton.model,
                max_memory=memory,
                no_split_module_classes=no_split,
                low_zero=strategy == "balanced_low_0",
            )
        inferred = infer_auto_device_map(
            skeleton.model, max_memory=memory, no_split_module_classes=no_split
        )
    numbered = {index: card.device for index, card in enumerate(machine.cards)}
    chosen = {key: numbered.get(device, device) for key, device in inferred.items()}
    return given_map(chosen, f"device_map={strategy!r}")
