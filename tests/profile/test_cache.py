"""Fitting sizes of caches, and giving them to blocks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPast

from devplan.core.types import CacheGrowth
from devplan.core.workload import Workload
from devplan.models.blocks import partition
from devplan.profile.cache import Growth, _divided, _joined, _owners, fit_growth
from devplan.profile.runs import measure_run
from tests.virtual.models import skeleton_of_module

SMALL, MEDIUM, LARGE = 24, 40, 4096


def sampled(growth: Growth) -> Growth:
    return fit_growth(*((tokens, growth.at(tokens)) for tokens in (SMALL, MEDIUM, LARGE)))


@settings(deadline=None)
@given(
    constant=st.integers(0, 10**6),
    per_token=st.integers(1, 10**6),
    window=st.none() | st.integers(MEDIUM + 1, LARGE - 1),
)
def test_a_growth_is_found_again(constant, per_token, window):
    growth = Growth(constant=constant, per_token=per_token, window_tokens=window)
    assert sampled(growth) == growth


@settings(deadline=None)
@given(per_token=st.integers(1, 10**6), window=st.integers(SMALL + 1, MEDIUM - 1))
def test_a_window_between_the_small_runs(per_token, window):
    growth = Growth(constant=0, per_token=per_token, window_tokens=window)
    assert sampled(growth) == growth


@settings(deadline=None)
@given(constant=st.integers(0, 10**9))
def test_what_does_not_grow(constant):
    growth = Growth(constant=constant, per_token=0, window_tokens=None)
    assert sampled(growth) == growth


@settings(deadline=None)
@given(entry=st.integers(1, 4096), stride=st.sampled_from([4, 16, 64, 128]))
def test_growth_by_steps_is_met_at_the_largest_size(entry, stride):
    held = [(tokens, tokens // stride * entry) for tokens in (SMALL, MEDIUM, LARGE)]
    fitted = fit_growth(*held)
    assert fitted.window_tokens is None
    assert held[-1][1] <= fitted.at(LARGE) <= held[-1][1] + held[1][1] + LARGE


def test_a_buffer_that_is_emptied_keeps_its_largest_size():
    assert fit_growth((24, 240), (40, 400), (4096, 0)).at(10**6) == 400


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(8, 4)
        self.norm = nn.LayerNorm(8)

    def forward(self, hidden):
        return self.norm(hidden), self.key(hidden)


class Returning(nn.Module):
    """Layers that return their cache, as GPT-2's did; folded ones return theirs as well."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.layers = nn.ModuleList([Layer() for _ in range(3)])

    def forward(self, input_ids, use_cache=True):
        hidden, kept = self.embed(input_ids), ()
        for layer in self.layers:
            hidden, key = layer(hidden)
            kept = (*kept, self.kept(key))
        return BaseModelOutputWithPast(last_hidden_state=hidden, past_key_values=kept)

    def kept(self, key):
        return key


class Allocating(Returning):
    """The cache is allocated before the layers run and written in place."""

    def kept(self, key):
        return torch.zeros_like(key).copy_(key)


class Keepless(Returning):
    def forward(self, input_ids, use_cache=True):
        return BaseModelOutputWithPast(last_hidden_state=self.embed(input_ids))


def run(model_class: type[nn.Module], **options):
    with torch.device("meta"):
        skeleton = skeleton_of_module(model_class())
    sites = partition(skeleton.model)
    return measure_run(skeleton, sites, Workload(context=256), **options)


@pytest.mark.parametrize("model_class", [Returning, Allocating])
@pytest.mark.parametrize("fold", [True, False])
def test_each_layer_has_its_own(model_class, fold):
    growth = (CacheGrowth(bytes_per_token=16),)
    expected = {f"layers.{index}": growth for index in range(3)}
    assert run(model_class, fold=fold).cache == expected


def test_another_dtype_of_the_cache():
    found = run(Returning, kv_element_bytes=1).cache
    assert found["layers.2"] == (CacheGrowth(bytes_per_token=4),)


def test_a_model_that_keeps_nothing():
    found = run(Keepless)
    assert found.cache == {} and found.notes == ()


class Compressing(Returning):
    """From 30 tokens on a layer keeps half of them once more."""

    def kept(self, key):
        tokens = key.shape[1]
        return (key, key[:, : tokens // 2]) if tokens >= 30 else (key,)


@pytest.mark.parametrize("fold", [True, False])
def test_what_is_kept_from_some_number_of_tokens_on_is_counted(fold):
    found = run(Compressing, fold=fold).cache
    assert set(found) == {"layers.0", "layers.1", "layers.2"}
    for (growth,) in found.values():
        # four floats a token, and two
        assert growth == CacheGrowth(bytes_per_token=16 + 8)


@given(st.integers(0, 10**6), st.integers(1, 64))
def test_bytes_that_nobody_made_are_shared_and_none_is_lost(num_bytes, blocks):
    growth = CacheGrowth(constant_bytes=num_bytes, bytes_per_token=num_bytes // 3, window_tokens=7)
    each = _divided(growth, blocks)
    for part, whole in ((each.constant_bytes, num_bytes), (each.bytes_per_token, num_bytes // 3)):
        assert whole <= part * blocks < whole + blocks
    assert each.window_tokens == 7


def test_growths_of_a_block_are_one_for_each_window():
    growths = [
        CacheGrowth(bytes_per_token=4),
        CacheGrowth(bytes_per_token=6),
        CacheGrowth(bytes_per_token=5, window_tokens=9),
        CacheGrowth(constant_bytes=3),
        CacheGrowth(constant_bytes=4, bytes_per_token=1, window_tokens=9),
    ]
    joined = _joined(growths)
    assert joined == (
        CacheGrowth(constant_bytes=7),
        CacheGrowth(bytes_per_token=10),
        CacheGrowth(bytes_per_token=6, window_tokens=9),
    )
    assert _joined([CacheGrowth()]) == ()


@pytest.mark.parametrize(
    ("places", "layers", "owners"),
    [
        # one for each layer, whatever stands before or behind the number
        (
            ("key_cache.0", "key_cache.1", "layers.0.keys", "layers.1.keys"),
            ("a", "b"),
            {"key_cache.0": "a", "key_cache.1": "b", "layers.0.keys": "a", "layers.1.keys": "b"},
        ),
        # as many as layers or nobody's
        (("key_cache.0", "key_cache.1"), ("a", "b", "c"), {}),
        (("key_cache.0", "key_cache.2"), ("a", "b"), {}),
        (("state",), ("a",), {}),
        # the outer number says the layer, not the one inside it
        (
            ("kept.0.0", "kept.0.1", "kept.1.0", "kept.1.1"),
            ("a", "b"),
            {"kept.0.0": "a", "kept.0.1": "a", "kept.1.0": "b", "kept.1.1": "b"},
        ),
    ],
)
def test_whose_a_place_in_a_container_is(places, layers, owners):
    assert _owners(places, layers) == owners
