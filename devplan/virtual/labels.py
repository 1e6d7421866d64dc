"""Labels: which virtual device a tensor is on, which block of the model made it, and its name.

A tensor that the code between the blocks makes has no maker; it has **sources**, the blocks whose
results went into it.  An offloaded weight is on meta until its hook loads it; the weight, and
tensors that are computed from it there, have its **name**.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from devplan.core import joined

CONCRETE_LIMIT = 2**20
"""Elements up to which a value is kept for real.  Larger tensors are abstract whatever their
dtype: nobody loops over a million values in Python, and masks of ``tokens x tokens`` live here."""

META = torch.device("meta")
CPU = torch.device("cpu")
NO_SOURCES: frozenset[str] = frozenset()


def label_of(tensor: torch.Tensor) -> torch.device | None:
    """The virtual device of a tensor; None when it never got one (a plain CPU tensor)."""
    label = getattr(tensor, "_devplan_device", None)
    if label is None and torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return label_of(torch._C._functorch.get_unwrapped(tensor))
    return label


def maker_of(tensor: torch.Tensor) -> str | None:
    """The block in which the tensor was made; None when outside of all, or unknown."""
    return getattr(tensor, "_devplan_maker", None)


def sources_of(tensor: torch.Tensor) -> frozenset[str]:
    """The block that made a tensor, or those whose results went into it between the blocks."""
    maker = maker_of(tensor)
    if maker is not None:
        return frozenset((maker,))
    return getattr(tensor, "_devplan_sources", NO_SOURCES)


def joint_sources(tensors: Sequence[torch.Tensor]) -> frozenset[str]:
    """Sources of what an op makes of these; beside floats, integers and masks only choose."""
    floats = (tensor for tensor in tensors if tensor.is_floating_point())
    return NO_SOURCES.union(*map(sources_of, floats)) or NO_SOURCES.union(*map(sources_of, tensors))


def mark(
    tensor: torch.Tensor,
    device: torch.device | None,
    maker: str | None,
    sources: frozenset[str] | None = None,
) -> torch.Tensor:
    """Label a tensor in place and return it; None for device or sources leaves them."""
    if device is not None:
        tensor._devplan_device = device
    tensor._devplan_maker = maker
    if sources is not None:
        tensor._devplan_sources = sources
    return tensor


def unmark(tensor: torch.Tensor) -> None:
    """Take the label off again."""
    for name in ("_devplan_device", "_devplan_maker", "_devplan_sources", "_devplan_name"):
        vars(tensor).pop(name, None)


def name_of(tensor: torch.Tensor) -> str | None:
    """The weight that a tensor is, or on meta comes from; None where it has no such label."""
    return getattr(tensor, "_devplan_name", None)


def give_name(tensor: torch.Tensor, name: str | None) -> torch.Tensor:
    """Label a tensor with the weight that it is, or comes from, and return it."""
    if name is not None:
        tensor._devplan_name = name
    return tensor


def bare_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that no mode sees, without labels."""
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        return tensor.detach().clone()


def is_abstract(tensor: torch.Tensor) -> bool:
    """Whether the tensor has no data.  To be asked where no `Answers` mode is active."""
    return tensor.device.type == "meta"


# Plain attributes: ``self.table = torch.arange(8)``, or a tensor in a list, a tuple or a dict
# that is an attribute. Such tensors are neither parameters nor buffers, and nothing moves them.
# PyTorch has no name for them; here their path is the name: ``layers.3.tables[1]``. A view of a
# buffer has the name of the buffer.

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
