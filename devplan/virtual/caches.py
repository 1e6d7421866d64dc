"""The tensors that a model's output keeps for the next token, whatever class its cache is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from devplan.virtual.labels import label_of, maker_of
from devplan.virtual.memory import rounded

CACHE_FIELDS = (
    "cache",
    "past_key_values",
    "cache_params",
    "state",
    "mems",
    "past_buckets_states",
)
"""Fields of a model output that hold what the next token needs.  Read off the output classes of
transformers 5.23 and 5.24: ``cache`` is the name of every `Cache` from 5.24 on, where the two names
after it still lead to the same object; RWKV and xLSTM, Transformer-XL and XLNet, Reformer."""


def cache_places(output: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in the caches of a model output, each once, by its place in it."""
    seen: set[int] = set()
    for field in CACHE_FIELDS:
        value = output.get(field) if isinstance(output, Mapping) else getattr(output, field, None)
        if value is not None:
            yield from _walk(value, field, seen)


def cache_bytes(output: Any, stands_for: Mapping[str | None, set[str]]) -> dict[torch.device, int]:
    """Bytes of the caches of a model output on each virtual device, folded layers included.

    Parameters
    ----------
    output
        What ``forward`` gave.
    stands_for
        Layer that was run -> layers that were folded into it; what they have put into the cache
        themselves is not counted twice.
    """
    found: dict[torch.device, int] = {}
    storages = set()
    tensors = [tensor for _, tensor in cache_places(output)]
    makers = {maker_of(tensor) for tensor in tensors}
    for tensor in tensors:
        device, storage = label_of(tensor), tensor.untyped_storage()
        if device is not None and id(storage) not in storages:
            storages.add(id(storage))
            num_layers = 1 + len(stands_for.get(maker_of(tensor), set()) - makers)
            found[device] = found.get(device, 0) + num_layers * rounded(storage.nbytes())
    return found


def _walk(value: Any, place: str, seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors in nested containers and plain objects; a cache may be any of them."""
    if id(value) in seen or isinstance(value, (type, str)) or _is_part_of_model(value):
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        if value.numel() > 1:  # a single number counts tokens, whatever the batch
            yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, f"{place}.{key}", seen)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _walk(item, f"{place}.{index}", seen)
    elif hasattr(value, "__dict__") and not hasattr(value, "to_diff_dict"):  # no configurations
        for name, item in vars(value).items():
            yield from _walk(item, f"{place}.{name}", seen)


def _is_part_of_model(value: Any) -> bool:
    """A module with parameters; caches themselves were modules in transformers 4.46 to 4.48."""
    return isinstance(value, nn.Module) and next(value.parameters(), None) is not None
