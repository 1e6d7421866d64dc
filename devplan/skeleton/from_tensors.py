"""A bare module tree from names and shapes of tensors, where the class cannot be had."""

from __future__ import annotations

import torch
from torch import nn

from devplan.catalog.tensors import TensorSummary


def module_from_tensors(summary: TensorSummary, dtype: torch.dtype) -> nn.Module:
    """Modules nested as the dotted names say, with meta parameters of the given shapes.

    The modules that the summary calls layers are instances of classes with those names, so that
    the partition into blocks finds them; none has a ``forward``.
    """
    classes: dict[str, type[nn.Module]] = {}
    root = nn.Module()
    for name, shape in summary.expand():
        *path, leaf = name.split(".")
        owner = root
        for depth, part in enumerate(path):
            child = owner._modules.get(part)
            if child is None:
                child = _module(summary.layer_class(".".join(path[: depth + 1])), classes)
                owner.add_module(part, child)
            owner = child
        parameter = nn.Parameter(
            torch.empty(shape, dtype=dtype, device="meta"), requires_grad=False
        )
        owner.register_parameter(leaf, parameter)
    return root


def _module(class_name: str | None, classes: dict[str, type[nn.Module]]) -> nn.Module:
    if class_name is None:
        return nn.Module()
    return classes.setdefault(class_name, type(class_name, (nn.Module,), {}))()
