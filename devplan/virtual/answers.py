"""What the model's Python code hears when it asks tensors and factories about devices.

``tensor.device`` answers with the label.  ``.to``, ``.cuda`` and ``.cpu`` change the label.  A
factory that is asked for a virtual device makes its tensor on the CPU, and labels it; the
execution mode below decides whether it is worth being real.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from devplan.virtual.labels import CPU, META, label_of, maker_of, mark

_DEVICE_GETTER = torch.Tensor.device.__get__
_GETTERS: dict[Any, Callable[[torch.device], Any]] = {
    torch.Tensor.is_cuda.__get__: lambda device: device.type == "cuda",
    torch.Tensor.is_meta.__get__: lambda device: device.type == "meta",
    torch.Tensor.is_cpu.__get__: lambda device: device.type == "cpu",
}
_MOVES = (torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.cpu)
_FROM_DATA = (torch.tensor, torch.as_tensor, torch.asarray)


class Answers(TorchFunctionMode):
    """Answers of the virtual machine to the model's own code.

    Parameters
    ----------
    home
        Where a parameter lives that has no label: one of a layer that did not run yet.
    """

    def __init__(self, home: torch.device) -> None:
        super().__init__()
        self.home = home

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _MOVES:
            return move(func, args, kwargs)
        # A property's getter is a new object at every access: it compares equal, but is not `is`.
        if func == _DEVICE_GETTER:
            return label_of(args[0]) or self._home(args[0]) or func(*args)
        getter = _GETTERS.get(func)
        if getter is not None and (label := label_of(args[0])) is not None:
            return getter(label)
        if func is torch.Tensor.get_device and (label := label_of(args[0])) is not None:
            return -1 if label.type == "cpu" else (label.index or 0)
        if func is torch.Tensor.data_ptr and args[0].untyped_storage().data_ptr() == 0:
            # accelerate keys tied parameters by data_ptr, which is 0 for every meta tensor.
            return args[0].untyped_storage()._cdata
        if kwargs.get("device") is not None and as_device(kwargs["device"]) != META:
            return make(func, args, kwargs)
        return func(*args, **kwargs)

    def _home(self, tensor: torch.Tensor) -> torch.device | None:
        return self.home if isinstance(tensor, torch.nn.Parameter) else None


def as_device(device: Any) -> torch.device:
    """``0``, ``"cuda"``, ``torch.device("cuda", 1)`` as a device with an index."""
    if isinstance(device, int):
        return torch.device("cuda", device)
    device = torch.device(device)
    return torch.device("cuda", 0) if device.type == "cuda" and device.index is None else device


def make(func, args, kwargs) -> Any:
    """Call a factory for a virtual device: make the tensor here and label it."""
    device = as_device(kwargs["device"])
    if func in _FROM_DATA:
        args = (_plain_values(args[0]), *args[1:])
    result = func(*args, **{**kwargs, "device": CPU, **_pinned_off(kwargs)})
    if isinstance(result, torch.Tensor):
        mark(result, device, maker_of(result))
    return result


def _pinned_off(kwargs) -> dict[str, bool]:
    return {"pin_memory": False} if kwargs.get("pin_memory") else {}


def _plain_values(data: Any) -> Any:
    """Nested lists with Python numbers in place of 0-dim tensors; a tensor stays a tensor."""
    if isinstance(data, (list, tuple)):
        return [_number(item) if _is_scalar(item) else _plain_values(item) for item in data]
    return data


def _is_scalar(item: Any) -> bool:
    return isinstance(item, torch.Tensor) and item.dim() == 0


def _number(item: torch.Tensor) -> Any:
    return item.item()


def move(func, args, kwargs) -> torch.Tensor:
    """``.to``, ``.cuda`` and ``.cpu``: split into a change of device and a change of dtype."""
    tensor, *rest = args
    device, rest, kwargs = _target_device(func, rest, dict(kwargs))
    kwargs.pop("non_blocking", None)
    if device is not None:
        tensor = transfer(tensor, as_device(device))
    if rest or kwargs:
        source = tensor
        tensor = torch.Tensor.to(source, *rest, **kwargs)
        if tensor is not source:
            mark(tensor, label_of(source), maker_of(source))
    return tensor


def _target_device(func, rest: list, kwargs: dict) -> tuple[Any, list, dict]:
    """The device that a move names, and the arguments that remain for ``.to``."""
    if func is torch.Tensor.cpu:
        return CPU, [], {}
    device = kwargs.pop("device", None)
    if func is torch.Tensor.cuda:
        return (rest[0] if rest else device if device is not None else "cuda"), [], {}
    remaining: list[Any] = []
    for position, item in enumerate(rest):
        if isinstance(item, (torch.device, str)) or (position == 0 and type(item) is int):
            device = item
        elif isinstance(item, torch.Tensor):  # .to(other): the other's device and dtype
            device = label_of(item) or CPU
            remaining.append(item.dtype)
        elif item is not None:
            remaining.append(item)
    other = kwargs.pop("other", None)
    if other is not None:
        device, kwargs["dtype"] = label_of(other) or CPU, other.dtype
    if len(remaining) > 1 and remaining[0] is not None and isinstance(remaining[1], bool):
        remaining = [remaining[0], False, *remaining[2:]]  # non_blocking has no meaning here
    return device, remaining, kwargs


def transfer(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on another virtual device: itself when it is there already, else a copy."""
    if (label_of(tensor) or CPU) == device:
        return tensor
    return mark(tensor.detach().clone(), device, maker_of(tensor))
