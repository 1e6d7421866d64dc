"""What a folded layer would have left in the cache, put there as stand-ins.

Model code asks a cache whether its layers are filled ("is this the first step?", "has this layer
seen the image?"), and a layer that was folded in one phase may have to run in the next.  So where
the representative left tensors of its own in an object that it was given, under its number in the
stack, tensors that cannot be told apart from these are put under the number of the folded layer.

A list that ends just before the number of the folded layer may grow by itself, or was made for too
few layers, and then the model fails.  Only the layer itself can show which (`lists_ending_at`).

Exceptions: what is stored in no list and no dict by the number of the layer is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from devplan.virtual.labels import is_abstract, label_of, maker_of, mark

_PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device, type)


class StateCopy:
    """Copies the state of one layer to another.

    Parameters
    ----------
    source, target
        Numbers of the two layers in their stack.
    source_name, target_name
        Their names; only tensors that the source made are its own.
    """

    def __init__(self, source: int, target: int, source_name: str, target_name: str) -> None:
        self.source = source
        self.target = target
        self.source_name = source_name
        self.target_name = target_name
        self.made: list[torch.Tensor] = []
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._seen: set[int] = set()

    def run(self, arguments: Iterable[Any]) -> list[torch.Tensor]:
        """Fill in the state in the objects among the arguments of a call.

        Returns
        -------
        list of torch.Tensor
            The tensors made for it.
        """
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            for argument in arguments:
                if _is_object(argument):
                    self._visit(argument)
        return self.made

    def _visit(self, value: Any) -> None:
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, list):
            self._visit_list(value)
        elif isinstance(value, dict):
            if self.source in value:
                value[self.target] = self._copy(value[self.source], value.get(self.target))
            elif not any(isinstance(key, int) for key in value):
                for item in value.values():
                    self._visit(item)
        elif _is_object(value):
            for item in list(vars(value).values()):
                self._visit(item)

    def _visit_list(self, items: list) -> None:
        if len(items) <= self.source:
            for item in items:
                self._visit(item)
        elif self.target < len(items):
            if type(items[self.target]) is type(items[self.source]):
                items[self.target] = self._copy(items[self.source], items[self.target])
        elif self.target == len(items):
            items.append(self._copy(items[self.source], None))

    def _copy(self, value: Any, present: Any) -> Any:
        """A stand-in for a part of the source's state; `present` is what the target has there."""
        if isinstance(value, torch.Tensor):
            return self._stand_in(value, present)
        if isinstance(value, (list, tuple)):
            old = present if type(present) is type(value) else ()
            return type(value)(
                self._copy(item, old[place] if place < len(old) else None)
                for place, item in enumerate(value)
            )
        if isinstance(value, dict):
            old = present if isinstance(present, dict) else {}
            return {key: self._copy(item, old.get(key)) for key, item in value.items()}
        if not _is_object(value):
            return value
        copy = present if type(present) is type(value) else object.__new__(type(value))
        for name, item in vars(value).items():
            vars(copy)[name] = self._copy(item, vars(copy).get(name))
        return copy

    def _stand_in(self, tensor: torch.Tensor, present: Any) -> torch.Tensor:
        if maker_of(tensor) != self.source_name:
            return tensor if present is None else present
        if not is_abstract(tensor):
            copy = tensor.detach().clone()
        elif isinstance(present, torch.Tensor) and _same_layout(present, tensor):
            return present
        else:
            copy = self._abstract_copy(tensor)
        self.made.append(mark(copy, label_of(tensor), self.target_name))
        return copy

    def _abstract_copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """On meta, in a storage as large: a cut-off window keeps what it was cut from alive."""
        storage = tensor.untyped_storage()
        own = self._storages.get(storage._cdata)
        if own is None:
            whole = torch.empty(storage.nbytes(), dtype=torch.uint8, device="meta")
            own = self._storages[storage._cdata] = whole.untyped_storage()
        empty = torch.empty(0, dtype=tensor.dtype, device="meta")
        return empty.set_(own, tensor.storage_offset(), tensor.shape, tensor.stride())


def lists_ending_at(target: int, source: int, arguments: Iterable[Any]) -> set[int]:
    """Ids of lists that hold the source's state and have no place for the target's."""
    found, seen = set(), set()
    pending = [argument for argument in arguments if _is_object(argument)]
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, list):
            if len(value) <= source:
                pending += value
            elif len(value) == target:
                found.add(id(value))
        elif isinstance(value, dict):
            if not any(isinstance(key, int) for key in value):
                pending += value.values()
        elif _is_object(value):
            pending += vars(value).values()
    return found


def _same_layout(one: torch.Tensor, other: torch.Tensor) -> bool:
    return (
        (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype)
        and one.is_meta == other.is_meta
        and label_of(one) == label_of(other)
        and one.untyped_storage().nbytes() == other.untyped_storage().nbytes()
    )


def _is_object(value: Any) -> bool:
    """A plain object such as a cache; no part of the model, and no configuration.

    The caches of transformers 4.42 to 4.48 are modules, without parameters.
    """
    if isinstance(value, (*_PLAIN, torch.Tensor, Mapping, list, tuple)):
        return False
    if isinstance(value, nn.Module):
        return next(value.parameters(), None) is None
    return hasattr(value, "__dict__") and not (hasattr(value, "to_diff_dict") or callable(value))
