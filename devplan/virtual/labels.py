"""Labels: which virtual device a tensor lives on, and which block of the model made it.

What the code between the blocks makes has no maker; it has **sources**, the blocks whose results
went into it.  A weight that waits for its hook, offloaded, lies on meta; it and what comes of it
there have its **name**.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils._python_dispatch import _disable_current_modes

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
