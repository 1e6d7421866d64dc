"""Tensors that modules hold as plain attributes: neither parameters nor buffers, moved by nobody.

``self.table = torch.arange(8)``, or a tensor in a list, a tuple or a dict that is an attribute.
Such a tensor has no name in PyTorch; here its path is one: ``layers.3.tables[1]``.  A view of a
buffer has the name of the buffer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from devplan.core import joined

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""Parameters, buffers, parts and hooks; a path to these would be no plain attribute's."""

_DEEPEST = 3
"""Containers in containers that are looked into; some hold themselves."""


def attribute_path(
    tensor: torch.Tensor, modules: Iterable[nn.Module], names: Mapping[int, str]
) -> str | None:
    """The path of a tensor in plain attributes and buffers of modules and of their direct parts.

    Parameters
    ----------
    tensor
        What is looked for: itself, or what it is a view of.
    modules
        Those whose code is running; what they use, they or their parts hold.
    names
        Dotted names of the model's modules by ``id``.
    """
    with torch._C.DisableTorchFunction():
        try:
            storage = tensor.untyped_storage()._cdata
        except NotImplementedError:  # inside vmap: masks are made for one position at a time
            return None
        for module in _with_parts(modules):
            for path, held in (*plain_tensors(module), *_buffers(module)):
                if held is tensor or held.untyped_storage()._cdata == storage:
                    name = names.get(id(module))
                    return joined(name, path)
    return None


def plain_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors among the plain attributes of one module, by their path in it."""
    for name, value in vars(module).items():
        if name not in _OF_EVERY_MODULE:
            yield from _tensors_in(value, name, _DEEPEST)


def _buffers(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return ((name, held) for name, held in module._buffers.items() if held is not None)


def _tensors_in(value: Any, path: str, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
    elif depth and isinstance(value, (list, tuple, dict)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _tensors_in(item, f"{path}[{key!r}]", depth - 1)


def _with_parts(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    seen: set[int] = set()
    for module in modules:
        for part in (module, *module._modules.values()):
            if part is not None and id(part) not in seen:
                seen.add(id(part))
                yield part
