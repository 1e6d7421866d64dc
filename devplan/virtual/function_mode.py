"""What the model's Python code hears when it asks tensors and factories about devices.

``tensor.device`` answers with the label.  ``.to``, ``.cuda`` and ``.cpu`` change the label.  A
factory that is asked for a virtual device makes its tensor on the CPU, and labels it; the
execution mode below decides whether it is worth being real.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from devplan.virtual.labels import CPU, META, is_abstract, label_of, maker_of, mark, sources_of
from devplan.virtual.operands import taken_along
from devplan.virtual.patches import backward_inside

if TYPE_CHECKING:
    from devplan.virtual.dispatch_mode import Execution

FACTORIES = frozenset(_device_constructors())
"""Functions that make a tensor on the device that they are told, the default one otherwise."""
_FROM_DATA = (torch.tensor, torch.as_tensor, torch.asarray)


class Answers(TorchFunctionMode):
    """Answers of the virtual machine to the model's own code.

    Parameters
    ----------
    execution
        The mode below; it is told of every transfer, and runs attention as one op.
    home
        Where a parameter lives that has no label: one of a layer that did not run yet.
    """

    def __init__(self, execution: Execution, home: torch.device | None = None) -> None:
        super().__init__()
        self.execution = execution
        self.home = home

    def __torch_function__(self, func, types, args=(), kwargs=None):
        handler = _HANDLERS.get(func)
        if handler is not None:
            return handler(self, func, args, kwargs or {})
        if kwargs and kwargs.get("device") is not None:
            return self._make(func, args, kwargs)
        # [factories] named in Python lie on the CPU whatever the operands: ``torch.arange(length)``
        # with a length from a GPU.  Those that torch's own code calls follow its operands.
        self.execution.caller = () if func in FACTORIES else (*args, *(kwargs or {}).values())
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.execution.caller = ()  # a reference kept would keep memory counted

    def _make(self, func, args, kwargs) -> Any:
        made = make(func, args, kwargs)
        if isinstance(made, torch.Tensor):
            self.execution.made(made)  # it had no label when its op ended
        return made

    def _device(self, func, args, kwargs) -> torch.device:
        label = self._label(args[0])
        if label == META:
            self.execution.asked_on_meta(args[0])
        return label or func(*args)

    def _label(self, tensor: torch.Tensor) -> torch.device | None:
        label = label_of(tensor)
        return self.home if label is None and isinstance(tensor, torch.nn.Parameter) else label

    def _is_cuda(self, func, args, kwargs) -> bool:
        return self._device_type(func, args) == "cuda"

    def _is_cpu(self, func, args, kwargs) -> bool:
        return self._device_type(func, args) == "cpu"

    def _is_meta(self, func, args, kwargs) -> bool:
        return self._device_type(func, args) == "meta"

    def _device_type(self, func, args) -> str:
        label = self._label(args[0])
        return label.type if label is not None else args[0].device.type

    def _get_device(self, func, args, kwargs) -> int:
        label = self._label(args[0])
        if label is None:
            return func(*args)
        return -1 if label.type == "cpu" else (label.index or 0)

    def _data_ptr(self, func, args, kwargs) -> int:
        # accelerate keys tied parameters by data_ptr, which is 0 for every meta tensor.
        return func(*args) or args[0].untyped_storage()._cdata

    def _move(self, func, args, kwargs) -> torch.Tensor:
        """``.to``, ``.cuda`` and ``.cpu``: a change of device and a change of dtype."""
        tensor, *rest = args
        device, rest, kwargs = target_device(func, rest, dict(kwargs))
        kwargs.pop("non_blocking", None)
        if device is not None:
            tensor = self.transfer(tensor, as_device(device))
        if rest or kwargs:
            tensor = torch.Tensor.to(tensor, *rest, **kwargs)
        return tensor

    def _type_as(self, func, args, kwargs) -> torch.Tensor:
        """The dtype of another tensor, and its device; C++ would ask for the real one."""
        other = kwargs.get("other", args[-1])
        tensor = self.transfer(args[0], label_of(other) or CPU)
        return torch.Tensor.to(tensor, other.dtype)

    def transfer(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        """The tensor on another virtual device: itself when it is there already, else a copy."""
        if (label_of(tensor) or CPU) == device:
            return tensor
        return self.execution.copy_to(tensor, device)

    def _new(self, func, args, kwargs) -> torch.Tensor:
        """``new_tensor``: its data enters without an op, and lies where the tensor lies."""
        kwargs = dict(kwargs)
        device = kwargs.pop("device", None)
        home = self._label(args[0]) or CPU if device is None else device
        return make(func, args, {**kwargs, "device": home})

    def _values(self, func, args, kwargs) -> Any:
        """``tolist``, ``numpy``: all the values of a tensor; made up where it has none."""
        tensor, *rest = args
        label = self._label(tensor) or CPU
        if label != CPU and func is not torch.Tensor.tolist:
            raise TypeError(
                f"can't convert {label} device type tensor to numpy. Use Tensor.cpu() to copy the "
                "tensor to host memory first."
            )
        if self._is_abstract(tensor):
            self.execution.note_made_up(f"Tensor.{func.__name__}")
            with _disable_current_modes():
                tensor = torch.ones(tensor.shape, dtype=tensor.dtype, device=CPU)
        return func(tensor, *rest, **kwargs)

    def _attention(self, func, args, kwargs) -> torch.Tensor:
        return self.execution.attention(func, args, kwargs)

    def _recurrent(self, func, args, kwargs) -> Any:
        """A recurrent layer: torch's own code compares the real devices of input and states."""
        leaves = tree_leaves((args, kwargs))
        if any(isinstance(item, torch.Tensor) and self._is_abstract(item) for item in leaves):
            args, kwargs = tree_map(self._abstracted, (args, kwargs))
        return func(*args, **kwargs)

    def _is_abstract(self, tensor: torch.Tensor) -> bool:
        with torch._C.DisableTorchFunction():
            return is_abstract(tensor)

    def _abstracted(self, item: Any) -> Any:
        """A tensor without its values, where it was."""
        if not isinstance(item, torch.Tensor) or self._is_abstract(item):
            return item
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            empty = torch.empty_like(item, device=META)
        return mark(empty, label_of(item), maker_of(item), sources_of(item))

    def _backward(self, func, args, kwargs) -> Any:
        """A backward pass calls the model's code again, where it is checkpointed."""
        with backward_inside(self._during_backward):
            return func(*args, **kwargs)

    @contextlib.contextmanager
    def _during_backward(self) -> Iterator[None]:
        before, self.execution.is_backward = self.execution.is_backward, True
        try:
            with self:
                yield
        finally:
            self.execution.is_backward = before

    def _take_along(self, func, args, kwargs) -> torch.Tensor:
        """As PyTorch takes it apart; its own code compares the real devices before that."""
        return taken_along(*args, **kwargs)


def default_on_cpu() -> AbstractContextManager:
    """Factories that name no device make tensors on the CPU, whatever context the caller is in.

    Where that is so already nothing is entered: a device context is a mode, and costs at every
    call.
    """
    is_so = torch.get_default_device() == CPU
    return contextlib.nullcontext() if is_so else torch.device(CPU)


_HANDLERS = {
    torch.Tensor.device.__get__: Answers._device,
    torch.Tensor.is_cuda.__get__: Answers._is_cuda,
    torch.Tensor.is_cpu.__get__: Answers._is_cpu,
    torch.Tensor.is_meta.__get__: Answers._is_meta,
    torch.Tensor.get_device: Answers._get_device,
    torch.Tensor.data_ptr: Answers._data_ptr,
    torch.Tensor.to: Answers._move,
    torch.Tensor.cuda: Answers._move,
    torch.Tensor.cpu: Answers._move,
    torch.Tensor.type_as: Answers._type_as,
    torch.nn.functional.scaled_dot_product_attention: Answers._attention,
    torch.Tensor.new_tensor: Answers._new,
    **dict.fromkeys(
        (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__), Answers._values
    ),
    **dict.fromkeys(
        (torch.Tensor.backward, torch.autograd.backward, torch.autograd.grad), Answers._backward
    ),
    torch.take_along_dim: Answers._take_along,
    torch.Tensor.take_along_dim: Answers._take_along,
    **dict.fromkeys((torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu), Answers._recurrent),
}
"""A property's getter is a new object at every access; it hashes and compares equal."""


def as_device(device: Any) -> torch.device:
    """``0``, ``"cuda"``, ``torch.device("cuda", 1)`` as a device with an index."""
    if isinstance(device, int):
        return torch.device("cuda", device)
    device = torch.device(device)
    return torch.device("cuda", 0) if device.type == "cuda" and device.index is None else device


def make(func, args, kwargs) -> Any:
    """Call a factory for a virtual device: make the tensor here and label it."""
    device = as_device(kwargs["device"])
    if device == META:  # what the model's code calls meta: a weight that is offloaded
        result = func(*args, **kwargs)
        return mark(result, META, None) if isinstance(result, torch.Tensor) else result
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


def target_device(func, rest: list, kwargs: dict) -> tuple[Any, list, dict]:
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
        elif isinstance(item, torch.dtype):  # not None, nor the flags that say how to copy
            remaining.append(item)
    other = kwargs.pop("other", None)
    if other is not None:
        device, kwargs["dtype"] = label_of(other) or CPU, other.dtype
    return device, remaining, kwargs
