"""The model inside what others put around it: adapters, ``torch.compile``, data parallelism.

A map names modules as the model itself does, or as the wrapper does
(``base_model.model.model.layers.0``): both are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import nn

from devplan.core import DeviceMap, InputError, is_inside

_SHARDED = frozenset({"FullyShardedDataParallel", "DeepSpeedEngine"})


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself.

    Raises
    ------
    InputError
        When its parameters are cut over processes, or its code is TorchScript's.
    """
    while (inner := _inner(model)) is not None and inner is not model:
        model = inner
    return model


def _inner(model: nn.Module) -> nn.Module | None:
    kind = type(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            "the model is compiled by TorchScript, whose code no virtual run can follow; give the "
            "model as it was before"
        )
    if kind.__name__ in _SHARDED or any(_is_sharded(each) for each in model.parameters()):
        raise InputError(
            f"the parameters of {kind.__name__} are cut over processes, and no device map places "
            "them; give the model as it was before"
        )
    if kind.__name__ == "OptimizedModule":  # of torch.compile
        return model._modules.get("_orig_mod")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return model.module
    if hasattr(kind, "get_base_model"):  # of peft, which is not imported to find out
        return model.get_base_model()
    return None


def _is_sharded(parameter: nn.Parameter) -> bool:
    return type(parameter).__name__ == "DTensor"


def in_names_of_the_model(map: DeviceMap, model: nn.Module) -> DeviceMap:
    """The map in names of the model inside, where it is written in those of the wrapper."""
    inner = unwrapped(model)
    prefix = next((name for name, each in model.named_modules() if each is inner), "")
    if not prefix or not _all_inside((entry.key for entry in map.entries), prefix):
        return map
    entries = tuple(
        replace(entry, key=entry.key.removeprefix(prefix).removeprefix("."))
        for entry in map.entries
    )
    return replace(map, entries=entries)


def _all_inside(keys: Iterable[str], prefix: str) -> bool:
    return all(is_inside(key, prefix) for key in keys)
