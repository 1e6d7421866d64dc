"""Blocks: the smallest things that are placed whole, read off the module tree.

A **block** is a module that a device map may name and that must not be split further:

* a *layer*: a module whose class the model declares in ``_no_split_modules``, or an element of a
  *stack* (a ``ModuleList``, or a ``Sequential`` of equals, of modules that have children of their
  own).  The second part covers the many classes that declare nothing, and the towers that they
  forget: a residual connection lives inside one element of such a stack.  Where stacks nest, the
  outermost element is the layer, even if a declared class sits inside it (ResNet declares its
  convolutions, its residual connections are two levels up), unless the element holds more than
  `LARGEST_LAYER_SHARE` of the model.
* the largest module that contains no layer: embeddings, a norm, a projector, a patch merger.
* a bare *tensor* of a module that is taken apart (``model.image_newline``).

A model without any layer (each of its lists has one element, or it has none) is divided into its
children: what a proof finds between them is learnt, and no card has to hold all of it.

Exceptions: ``ModuleList`` and ``ModuleDict`` are never blocks, since nothing calls them and no
hook of accelerate's would move their inputs; their children are.  A module that is reached by two
names (T5's ``shared`` is also ``encoder.embed_tokens``) is a block under each, the second one
without tensors of its own and tied to the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from devplan.core import joined

LARGEST_LAYER_SHARE = 0.3
"""An element of a stack that holds more of the model than this is taken apart where it declares
classes inside: a plan over two cards needs pieces well below a half.  Measured on the stages of
ResNet-50, whose last holds two thirds and whose bottleneck layers at most 26 %."""

_UNCALLED = (nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True, kw_only=True)
class BlockSite:
    """Where a block is in the model.

    Exactly one of `module` and `tensor` is set.
    """

    name: str
    class_name: str
    stack: str | None
    module: nn.Module | None = None
    tensor: torch.Tensor | None = None


def partition(model: nn.Module, no_split: frozenset[str] = frozenset()) -> tuple[BlockSite, ...]:
    """All blocks of a model, in the order of the module tree; together they hold every tensor.

    Parameters
    ----------
    model
        Any module; only its structure is read.
    no_split
        Class names that must stay whole.
    """
    walk = _Partition(model, no_split)
    sites = tuple(walk.visit(model, ""))
    while len(sites) == 1 and (whole := sites[0].module) is not None:
        if type(whole).__name__ in no_split or not any(map(_holds_tensors, whole.children())):
            break
        walk.divided[id(whole)] = True
        sites = tuple(walk.visit(model, ""))
    return sites


class _Partition:
    """One walk over the tree; looks into a module only where the answer depends on it."""

    def __init__(self, model: nn.Module, no_split: frozenset[str]) -> None:
        self.model = model
        self.no_split = no_split
        self.divided: dict[int, bool] = {}
        """Id of a module -> whether it is taken apart."""

    def visit(self, module: nn.Module, name: str, stack: str | None = None) -> Iterator[BlockSite]:
        """The blocks in a module, which may be a block itself."""
        if self._is_whole(module):
            yield from _whole(module, name, stack)
            return
        yield from _bare_tensors(module, name)
        for child_name, child in module._modules.items():
            if child is not None:
                path = joined(name, child_name)
                yield from self._visit_child(module, name, child, path)

    def _visit_child(
        self, module: nn.Module, name: str, child: nn.Module, path: str
    ) -> Iterator[BlockSite]:
        if self._is_element(module, child):
            yield from _whole(child, path, name)
        else:
            yield from self.visit(child, path, name if self._is_declared(child) else None)

    def _is_declared(self, module: nn.Module) -> bool:
        return type(module).__name__ in self.no_split

    def _is_whole(self, module: nn.Module) -> bool:
        if self._is_declared(module):
            return True
        return not isinstance(module, _UNCALLED) and not self._is_divided(module)

    def _is_element(self, module: nn.Module, child: nn.Module) -> bool:
        """Whether a child is a layer because of where it is, not of its class."""
        if not is_stack(module) or isinstance(child, _UNCALLED):
            return False
        return not self._is_taken_apart(child)

    def _is_divided(self, module: nn.Module) -> bool:
        """Whether the module contains a layer strictly inside itself."""
        known = self.divided.get(id(module))
        if known is None:
            children = [child for child in module._modules.values() if child is not None]
            known = is_stack(module) or any(
                self._is_declared(child) or self._is_divided(child) for child in children
            )
            self.divided[id(module)] = known
        return known

    def _is_taken_apart(self, element: nn.Module) -> bool:
        """Whether an element of a stack is so large that its declared classes are the layers."""
        if not self.no_split or self._is_declared(element):
            return False
        if not any(self._is_declared(module) for module in element.modules()):
            return False
        return _num_bytes(element) > self.largest_layer_bytes

    @cached_property
    def largest_layer_bytes(self) -> int:
        return int(_num_bytes(self.model) * LARGEST_LAYER_SHARE)


def _whole(module: nn.Module, name: str, stack: str | None) -> Iterator[BlockSite]:
    if _holds_tensors(module):
        class_name = type(module).__name__
        yield BlockSite(name=name, class_name=class_name, stack=stack, module=module)


def is_stack(module: nn.Module) -> bool:
    """Whether the module is a row of layers."""
    if isinstance(module, nn.ModuleList):
        return sum(1 for child in module if _is_composite(child)) >= 2
    if isinstance(module, nn.Sequential):
        classes = {type(child) for child in module}
        return len(module) >= 2 and len(classes) == 1 and _is_composite(module[0])
    return False


def _is_composite(module: nn.Module | None) -> bool:
    return module is not None and len(module._modules) > 0


def _num_bytes(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(module))


def _holds_tensors(module: nn.Module) -> bool:
    return any(True for _ in _tensors(module))


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    """Parameters and buffers, shared ones as often as they occur."""
    for inner in module.modules():
        for tensor in (*inner._parameters.values(), *inner._buffers.values()):
            if tensor is not None:
                yield tensor


def _bare_tensors(module: nn.Module, name: str) -> Iterator[BlockSite]:
    kinds = (("Parameter", module._parameters), ("Buffer", module._buffers))
    for class_name, tensors in kinds:
        for tensor_name, tensor in tensors.items():
            if tensor is not None:
                path = joined(name, tensor_name)
                yield BlockSite(name=path, class_name=class_name, stack=None, tensor=tensor)
