"""Modules that a run may change, given back at its end as they were, whatever happens.

A run labels tensors, wraps ``forward`` methods and swaps buffers; accelerate attaches hooks; a
model's own code may re-register buffers (dynamic rotary embeddings) or keep states in attributes
(Griffin).
"""

from __future__ import annotations

from collections.abc import Callable, Container

import torch
from torch import nn

from devplan.virtual.labels import CONCRETE_LIMIT, CPU, unmark


class Loan:
    """Borrows modules; a context manager that gives them back.

    The modules inside a layer can be borrowed when the layer first runs: of a hundred thousand
    modules, most belong to layers that are folded.

    Parameters
    ----------
    place
        Labels the tensors of a module that was just borrowed.
    """

    def __init__(self, place: Callable[[nn.Module], None]) -> None:
        self.place = place
        self.kept: dict[nn.Module, tuple[dict, dict, dict]] = {}

    def __enter__(self) -> Loan:
        return self

    def __exit__(self, *exception: object) -> None:
        for module, (attributes, parameters, buffers) in self.kept.items():
            for content, old in (
                (vars(module), attributes),
                (module._parameters, parameters),
                (module._buffers, buffers),
            ):
                content.clear()
                content.update(old)
            for tensor in (*parameters.values(), *buffers.values()):
                if tensor is not None:
                    unmark(tensor)

    def borrow(self, module: nn.Module) -> None:
        """Remember one module, give its integer buffers on meta real zeros, and label."""
        if module in self.kept:
            return
        buffers = module._buffers
        self.kept[module] = dict(vars(module)), dict(module._parameters), dict(buffers)
        for name, buffer in buffers.items():
            if buffer is not None and _wants_values(buffer):
                buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype, device=CPU)
        self.place(module)

    def borrow_all(self, model: nn.Module) -> None:
        """The model with everything in it."""
        for module in model.modules():
            self.borrow(module)

    def borrow_outside(self, model: nn.Module, layers: Container[nn.Module]) -> None:
        """Everything but the insides of `layers`."""
        pending = [model]
        while pending:
            module = pending.pop()
            self.borrow(module)
            if module not in layers:
                pending.extend(child for child in module._modules.values() if child is not None)


def _wants_values(buffer: torch.Tensor) -> bool:
    is_number = buffer.is_floating_point() or buffer.is_complex()
    return buffer.device.type == "meta" and not is_number and buffer.numel() <= CONCRETE_LIMIT
