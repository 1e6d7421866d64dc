"""The copies of tensors on other devices, and when one may be handed out again.

A copy stands for its tensor as long as neither was written to and both lie where they lay.  PyTorch
counts writes in ``_version``, which a tensor shares with its views, with what it is a view of and
with what ``detach()`` gave; assignment to ``.data`` changes the address, the shape or the strides.

A copy lives as long as its tensor and no longer: the entry is found by the tensor itself, not by a
number that another tensor may get, and goes when the tensor goes.

What is never handed out twice:

* a copy of a tensor that gradients flow through: one copy for two users would add their gradients
  in another order than two copies, and the last bit would differ;
* a copy of which somebody asked for gradients;
* a copy that was made on another CUDA stream than the one that is current;
* a tensor whose writes are not counted (made under ``torch.inference_mode``), or that is not a
  plain strided tensor.

Unseen: writes that go past PyTorch's counter, through ``.data``, a NumPy array of the same memory
or a kernel of one's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

State = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class _Copy:
    """A tensor on another device, and what tells whether it still stands for the original."""

    tensor: torch.Tensor
    original_state: State
    own_state: State
    stream: int | None


class Copies:
    """Copies of tensors by device, for one thread."""

    def __init__(self) -> None:
        self._known: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def get(
        self, tensor: torch.Tensor, device: torch.device, copy: Callable[[], torch.Tensor]
    ) -> tuple[torch.Tensor, bool]:
        """The tensor on a device, and whether it was copied just now.

        Parameters
        ----------
        tensor
            A tensor that lies elsewhere.
        device
            With its index.
        copy
            Makes a copy there.
        """
        state = _state(tensor)
        if state is None or (tensor.requires_grad and torch.is_grad_enabled()):
            return copy(), True
        stream = _stream(device)
        known = self._known.get(tensor)
        found = None if known is None else known.get(device)
        if found is not None and _stands(found, state, stream):
            return found.tensor, False
        made = copy()
        own_state = _state(made)
        if own_state is not None and made is not tensor:
            entry = _Copy(tensor=made, original_state=state, own_state=own_state, stream=stream)
            if known is None:
                known = self._known[tensor] = {}
            known[device] = entry
        return made, True

    def clear(self) -> None:
        self._known.clear()

    def __len__(self) -> int:
        return sum(len(devices) for devices in self._known.values())


def _stands(copy: _Copy, state: State, stream: int | None) -> bool:
    return (
        copy.original_state == state
        and copy.own_state == _state(copy.tensor)
        and copy.stream == stream
        and not copy.tensor.requires_grad
    )


def _state(tensor: torch.Tensor) -> State | None:
    """What changes when a tensor is written to, or made to lie elsewhere; None: nobody can tell."""
    if tensor.layout is not torch.strided or tensor.is_inference():
        return None
    try:
        return tensor._version, tensor.data_ptr(), tuple(tensor.shape), tensor.stride()
    except RuntimeError:  # a tensor of functorch's, which has no memory of its own
        return None


def _stream(device: torch.device) -> int | None:
    """The current CUDA stream; what was copied on one may not be there yet for another."""
    if device.type != "cuda":
        return None
    try:
        return torch.cuda.current_stream(device).cuda_stream
    except (AttributeError, AssertionError, RuntimeError):  # a card that is only virtual
        return None
