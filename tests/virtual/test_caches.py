"""The caches of a model output, whatever a release calls the field."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers.cache_utils import DynamicCache

from devplan.virtual.memory import cache_places


def filled() -> DynamicCache:
    cache = DynamicCache()
    for layer in range(2):
        cache.update(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), layer)
    return cache


class Renaming(dict):
    """An output of transformers 5.24: old names lead to the one cache."""

    def get(self, name, default=None):
        return super().get("cache" if name in ("past_key_values", "cache_params") else name)


@pytest.mark.parametrize(
    "output",
    [
        {"past_key_values": filled()},
        {"cache": filled()},
        Renaming(cache=filled()),
        SimpleNamespace(cache_params=filled()),
    ],
    ids=["to 5.23", "from 5.24", "5.24 asked by the old names", "mamba"],
)
def test_every_cached_tensor_is_found_once(output):
    places = [place for place, tensor in cache_places(output) if tensor.shape == (1, 2, 3, 4)]
    assert len(places) == 4  # keys and values of two layers


def test_one_cache_under_two_names_is_counted_once():
    cache = filled()
    twice = SimpleNamespace(cache=cache, past_key_values=cache)
    assert len(list(cache_places(twice))) == len(list(cache_places({"cache": cache})))
