"""A loaded model, or a transformers configuration, as a source.

A loaded model is copied without its weights: every parameter and buffer becomes a meta tensor of
the same shape, small integer buffers keep their values, and accelerate's hooks are taken off the
copy.  The model itself is not touched.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from devplan.core import DeviceMap, InputError, is_inside, one_line, wrong
from devplan.models import ModelSource
from devplan.virtual import idle_hook, mark, own_hook, plain_tensors, remove_hooks


def source_of_config(config: Any) -> ModelSource:
    """A source for a configuration object of transformers.

    Raises
    ------
    InputError
        When it is none, or names no class.
    """
    if isinstance(config, type) or not hasattr(config, "to_dict"):
        raise wrong(
            "model",
            config,
            "a name, folder or hub id as text, a configuration of transformers, or a loaded model",
        )
    architectures = getattr(config, "architectures", None)
    class_name = architectures[0] if architectures else _default_class(config)
    content = {**_without_empty_names(config.to_dict()), "architectures": [class_name]}
    return ModelSource(
        id=getattr(config, "_name_or_path", "") or type(config).__name__,
        origin="folder",
        location=None,
        library="transformers",
        class_name=class_name,
        config=content,
        dtype=_dtype_of(config),
    )


def _without_empty_names(content: Any) -> Any:
    """The content without names that say nothing: a part that has one is looked for on the hub."""
    if not isinstance(content, dict):
        return content
    return {
        key: _without_empty_names(value)
        for key, value in content.items()
        if not (key == "_name_or_path" and not value)
    }


def _default_class(config: Any) -> str:
    """The class with a head, where transformers knows one; else the bare model."""
    from transformers.models.auto import modeling_auto

    for table in ("CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "SEQ_TO_SEQ_CAUSAL_LM"):
        names = getattr(modeling_auto, f"MODEL_FOR_{table}_MAPPING_NAMES", {})
        if config.model_type in names:
            return names[config.model_type]
    name = modeling_auto.MODEL_MAPPING_NAMES.get(config.model_type)
    if name is None:
        raise InputError(
            f"{type(config).__name__} names no class; set config.architectures to the model's class"
        )
    return name if isinstance(name, str) else name[0]


def _dtype_of(config: Any) -> str | None:
    dtype = getattr(config, "dtype", None) or getattr(config, "torch_dtype", None)
    return None if dtype is None else str(dtype).removeprefix("torch.")


def source_of_model(model: nn.Module) -> ModelSource:
    """A source whose skeleton is a copy of a loaded model without its weights."""
    config = getattr(model, "config", None)
    content = config.to_dict() if hasattr(config, "to_dict") else {}
    quantized = {k: v for k, v in content.items() if k == "quantization_config"}
    return ModelSource(
        id=getattr(config, "_name_or_path", "") or type(model).__name__,
        origin="factory",
        location=None,
        library="transformers",
        class_name=type(model).__name__,
        # [quantized] the parameters of a loaded model already have the dtypes in which they lie.
        config={k: v for k, v in content.items() if k not in quantized},
        factory=lambda: weightless_copy(model),
    )


def weightless_copy(model: nn.Module) -> nn.Module:
    """The same modules with meta tensors, without accelerate's hooks."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        memo[id(tensor)] = _without_data(tensor)
    for module in model.modules():
        for _, tensor in plain_tensors(module):
            if tensor.device.type not in ("cpu", "meta"):  # no run may touch a real card
                memo[id(tensor)] = mark(_without_data(tensor), tensor.device, None)
        hook = own_hook(module)
        if hook is not None:  # it holds the offloaded weights, and would put them back
            memo[id(hook)] = idle_hook()
    try:
        with torch.no_grad():
            copied = copy.deepcopy(model, memo)
    except Exception as error:  # classes of others: anything can happen
        said = one_line(error, 200)
        raise InputError(
            f"{type(model).__name__} cannot be copied without its weights "
            f"({type(error).__name__}: {said}); give its name, folder or configuration instead"
        ) from error
    remove_hooks(copied)
    return copied


def _without_data(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=False)
    return empty


# Adapters, torch.compile and data parallelism wrap a model.  A map may use the names of the model
# or those of the wrapper (base_model.model.model.layers.0).


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
