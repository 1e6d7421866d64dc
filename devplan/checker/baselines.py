"""The planners that are installed anyway: accelerate and transformers.

Each is asked on the meta device as its own documentation or its own caller asks it, with the whole
capacity of every card as ``max_memory``: on a free GPU both ask the driver for the free memory.
What does not fit on the cards goes where the caller allows: to a CPU without bound (`CPU_TOO`, as
on a machine with enough memory), or to disk, which accelerate always adds (`CARDS_ONLY`).

``transformers.integrations.accelerate._get_device_map`` is what ``from_pretrained`` calls.  It is
private; where a release has no such function, ``from_pretrained`` calls accelerate's in its own
code, and so does this module.  Models of other libraries are placed by accelerate's functions too.

Numbers stand for the cards in their order (`max_memory`), whatever their CUDA indices are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from devplan.core import (
    CPU,
    TIB,
    DeviceMap,
    InputError,
    Machine,
    device_map_of,
    from_hf_device_map,
    nearest,
)

if TYPE_CHECKING:
    from torch import nn

    from devplan.models import Skeleton


STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")
"""What ``from_pretrained(device_map=...)`` takes by name; the first two are one."""

Memory = Mapping[int | str, int]

CARDS_ONLY: Memory = {}
"""Nothing but the cards."""
CPU_TOO: Memory = {CPU: 1024 * TIB}
"""A CPU with more than any model needs; accelerate wants a number."""


def accelerate_by_hand(model: nn.Module, machine: Machine, beside: Memory) -> dict[str, str]:
    """``infer_auto_device_map`` within ``get_balanced_memory``, as accelerate's guide says."""
    return _by_accelerate(model, machine, beside, "auto", _declared(model))


def from_pretrained_strategy(
    strategy: str,
    model: nn.Module,
    machine: Machine,
    beside: Memory,
    no_split: Collection[str] | None = None,
) -> dict[str, str]:
    """``from_pretrained(device_map=strategy)``.

    `no_split` are classes that must stay whole, for libraries that gather them from inside the
    model; None: what the model itself declares.
    """
    planner = _transformers_planner(model)
    if planner is None:
        whole = _declared(model) if no_split is None else sorted(no_split)
        return _by_accelerate(model, machine, beside, strategy, whole)
    with _quietly(sys.modules[planner.__module__]):
        inferred = planner(model, strategy, max_memory(machine, beside), None)
    return _on_cards(inferred, machine)


def max_memory(machine: Machine, beside: Memory) -> dict[int | str, int]:
    """Capacity of every card by its place, and what is allowed beside the cards."""
    cards = {place: card.capacity_bytes for place, card in enumerate(machine.cards)}
    return {**cards, **beside}


def _transformers_planner(model: nn.Module) -> Callable[..., Mapping[str, Any]] | None:
    """What ``from_pretrained`` of this model calls; None where it calls accelerate itself."""
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        return None
    try:
        from transformers.integrations.accelerate import _get_device_map
    except ImportError:
        return None
    return _get_device_map


def _declared(model: nn.Module) -> list[str]:
    """Classes that the model says must stay whole, as a user reads them off."""
    return sorted(getattr(model, "_no_split_modules", None) or ())


def _by_accelerate(
    model: nn.Module, machine: Machine, beside: Memory, strategy: str, no_split: list[str]
) -> dict[str, str]:
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory, modeling

    memory: Mapping[int | str, int] = max_memory(machine, beside)
    with _quietly(modeling):
        if strategy != "sequential":
            memory = get_balanced_memory(
                model,
                max_memory=dict(memory),
                no_split_module_classes=no_split,
                low_zero=strategy == "balanced_low_0",
            )
        inferred = infer_auto_device_map(
            model, max_memory=dict(memory), no_split_module_classes=no_split
        )
    return _on_cards(inferred, machine)


@contextmanager
def _quietly(module: ModuleType) -> Iterator[None]:
    """Cards by number, and no warnings that they are not here."""
    from devplan.virtual import cards_by_number, quiet

    with cards_by_number(module), quiet():
        yield


def _on_cards(inferred: Mapping[str, Any], machine: Machine) -> dict[str, str]:
    numbered = {place: card.device for place, card in enumerate(machine.cards)}
    named = {key: numbered.get(device, device) for key, device in inferred.items()}
    return from_hf_device_map(named)


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
        raise InputError(f"--device-map {strategy} needs the GPUs; give --gpus 24GiB,12GiB")
    from devplan.models import of_the_library

    said = f"device_map={strategy!r} cannot be had: the libraries' own planner raised"
    with of_the_library(said, "name a map file, or make one with devplan suggest"):
        chosen = from_pretrained_strategy(
            strategy, skeleton.model, machine, CPU_TOO, skeleton.no_split
        )
    return device_map_of(chosen, f"device_map={strategy!r}")
