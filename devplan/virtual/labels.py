"""Labels: which virtual device a tensor lives on, and which block of the model made it."""

from __future__ import annotations

import torch

CONCRETE_LIMIT = 2**20
"""Elements up to which a value is kept for real.  Larger tensors are abstract whatever their
dtype: nobody loops over a million values in Python, and masks of ``tokens x tokens`` live here."""

META = torch.device("meta")
CPU = torch.device("cpu")


def label_of(tensor: torch.Tensor) -> torch.device | None:
    """The virtual device of a tensor; None when it never got one (a plain CPU tensor)."""
    return getattr(tensor, "_devplan_device", None)


def maker_of(tensor: torch.Tensor) -> str | None:
    """The block in which the tensor was made; None when outside of all, or unknown."""
    return getattr(tensor, "_devplan_maker", None)


def mark(tensor: torch.Tensor, device: torch.device | None, maker: str | None) -> torch.Tensor:
    """Label a tensor in place and return it."""
    if device is not None:
        tensor._devplan_device = device
    tensor._devplan_maker = maker
    return tensor


def unmark(tensor: torch.Tensor) -> None:
    """Take the label off again."""
    for name in ("_devplan_device", "_devplan_maker"):
        vars(tensor).pop(name, None)


def is_abstract(tensor: torch.Tensor) -> bool:
    """Whether the tensor has no data.  To be asked where no `Answers` mode is active."""
    return tensor.device.type == "meta"
