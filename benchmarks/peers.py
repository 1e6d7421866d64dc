"""The planners that are installed anyway: accelerate and transformers.

Each is a function from a model and a machine to a device map, called as its own documentation or
its own caller calls it, with the capacity of every card as ``max_memory``.  No ``cpu`` is offered,
so that what does not fit goes to ``disk``, which accelerate always adds.

``transformers.integrations.accelerate._get_device_map`` is what ``from_pretrained`` calls.  It is
private: the constraints file pins the version for which this was written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from torch import nn

from devplan.types import Machine

# accelerate warns of each card that this machine lacks; printing it must not count as planning.
logging.getLogger("accelerate.utils.modeling").setLevel(logging.ERROR)

DeviceMap = Mapping[str, int | str]
Peer = Callable[[nn.Module, Machine], DeviceMap]


def accelerate_auto(model: nn.Module, machine: Machine) -> DeviceMap:
    """``infer_auto_device_map`` within ``get_balanced_memory``, as accelerate's guide says."""
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    no_split = sorted(model._no_split_modules or ())
    budgets = get_balanced_memory(
        model, max_memory=max_memory(machine), no_split_module_classes=no_split
    )
    return infer_auto_device_map(model, max_memory=budgets, no_split_module_classes=no_split)


def transformers_auto(model: nn.Module, machine: Machine) -> DeviceMap:
    """``from_pretrained(device_map="auto")``."""
    return _transformers(model, machine, "auto")


def transformers_sequential(model: nn.Module, machine: Machine) -> DeviceMap:
    """``from_pretrained(device_map="sequential")``."""
    return _transformers(model, machine, "sequential")


def transformers_low_0(model: nn.Module, machine: Machine) -> DeviceMap:
    """``from_pretrained(device_map="balanced_low_0")``."""
    return _transformers(model, machine, "balanced_low_0")


AUTO: Mapping[str, Peer] = {
    "accelerate auto": accelerate_auto,
    "transformers auto": transformers_auto,
}
PEERS: Mapping[str, Peer] = {
    **AUTO,
    "transformers sequential": transformers_sequential,
    "transformers balanced_low_0": transformers_low_0,
}


def max_memory(machine: Machine) -> dict[int, int]:
    """Capacity of every card by its index."""
    return {int(card.device.partition(":")[2]): card.capacity_bytes for card in machine.cards}


def _transformers(model: nn.Module, machine: Machine, strategy: str) -> DeviceMap:
    from transformers.integrations.accelerate import _get_device_map

    return _get_device_map(model, strategy, max_memory(machine), None)
