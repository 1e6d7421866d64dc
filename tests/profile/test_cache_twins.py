"""Bytes of the cache against the cache of a real forward of a real, tiny model.

What is compared: `measure_run` on the configuration's skeleton (meta device, folded, virtual), and
the tensors that the same class keeps after a forward with real weights on the CPU, counted through
the documented attributes of the cache classes and not through devplan's own walk.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from transformers import EncoderDecoderCache

from devplan.core.workload import Workload
from devplan.inputs.plain import plain_inputs
from devplan.models.blocks import partition
from devplan.profile.runs import measure_run
from tests.profile.twins import CASES, TWINS, WINDOW
from tests.virtual.models import skeleton_of_type

TOKENS = (7, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW + 5)
"""Below, at and above the windows, and a prefill several times as long."""


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small are slower on several threads, by far where processors are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def real_bytes_of_layers(model, output) -> Counter[int]:
    """Layer -> bytes that a real forward keeps for the next token."""
    cache = output.get("past_key_values", None)
    if cache is None:
        cache = output.get("cache_params", None)
    if hasattr(cache, "rnn_state"):  # xLSTM
        return Counter({layer: _bytes(states) for layer, states in cache.rnn_state.items()})
    counted: Counter[int] = Counter()
    for part in (
        (cache.self_attention_cache, cache.cross_attention_cache)
        if isinstance(cache, EncoderDecoderCache)
        else (cache,)
    ):
        for index, layer in enumerate(part.layers if part is not None else ()):
            counted[index] += _bytes(getattr(layer, "keys", None))
            counted[index] += _bytes(getattr(layer, "values", None))
            counted[index] += _bytes(getattr(layer, "conv_states", None))
            counted[index] += _bytes(getattr(layer, "recurrent_states", None))
        for index, state in enumerate(getattr(part, "linear_cache", ())):  # MiniMax
            counted[index] += _bytes(state)
    for index, layer in enumerate(getattr(model.base_model, "layers", ())):  # Griffin
        mixer = getattr(layer, "temporal_block", None)
        counted[index] += _bytes(getattr(mixer, "conv1d_state", None))
        counted[index] += _bytes(getattr(getattr(mixer, "rg_lru", None), "recurrent_states", None))
    return +counted


def _bytes(held) -> int:
    if held is None:
        return 0
    if isinstance(held, torch.Tensor):
        return held.numel() * held.element_size()
    return sum(map(_bytes, held.values() if isinstance(held, dict) else held))


def real_model(model_type: str, settings: dict, dtype: torch.dtype):
    """The same class as the skeleton's, with random weights on the CPU."""
    skeleton = skeleton_of_type(model_type, dtype=dtype, **settings)
    return skeleton, type(skeleton.model)(skeleton.config).to(dtype).eval()


def run_for_real(skeleton, model, batch: int, tokens: int):
    inputs = plain_inputs(skeleton.model, skeleton.config)[0].make(tokens, batch)
    values = {
        name: torch.randn(value.shape, dtype=value.dtype)
        if isinstance(value, torch.Tensor) and value.is_meta
        else value
        for name, value in inputs.items()
    }
    with torch.no_grad():
        return model(**values)


@pytest.mark.parametrize(("model_type", "settings"), CASES, ids=[name for name, _ in CASES])
def test_cache_is_that_of_a_real_forward(model_type, settings):
    skeleton, model = real_model(model_type, settings, torch.float32)
    sites = partition(skeleton.model, skeleton.no_split)
    run = measure_run(skeleton, sites, Workload(context=max(TOKENS)))
    assert run.notes == ()
    for batch, tokens in ((1, TOKENS[0]), *((2, tokens) for tokens in TOKENS[1:])):
        output = run_for_real(skeleton, model, batch, tokens)
        foretold = {
            name: sum(growth.bytes_at(tokens, batch) for growth in growths)
            for name, growths in run.cache.items()
        }
        if output.get("state", None) is not None:  # RWKV: one tensor for all layers
            assert sum(foretold.values()) == _bytes(output.state)
            continue
        real = real_bytes_of_layers(model, output)
        assert real
        assert {int(name.rpartition(".")[2]): held for name, held in foretold.items()} == real


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3_next", "mamba2", "xlstm"])
def test_cache_in_half_precision(model_type):
    """Some states stay in float32 whatever the dtype of the model."""
    settings = dict(CASES)[model_type]
    skeleton, model = real_model(model_type, settings, torch.bfloat16)
    sites = partition(skeleton.model, skeleton.no_split)
    run = measure_run(skeleton, sites, Workload(context=256))
    real = real_bytes_of_layers(model, run_for_real(skeleton, model, 1, 50))
    foretold = sum(part.bytes_at(50) for growths in run.cache.values() for part in growths)
    assert foretold == sum(real.values())


def test_eight_kinds_and_more():
    assert len([kind for kind, twins in TWINS.items() if twins]) >= 8
