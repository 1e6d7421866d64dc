"""Bytes of every checkpoint of the catalogue against those that were published.

Twice: by the formula of its quantization method over the parameters of the class, and tensor by
tensor from headers as the checkpoint has them, with experts one by one where the class fuses them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from devplan.catalog import models
from devplan.models.blocks import partition
from devplan.models.build import build_skeleton
from devplan.models.from_catalog import resolve_catalogue
from devplan.profile.checkpoint import stored_bytes
from devplan.profile.profiling import measure_weights
from devplan.profile.quantization import quantized_bytes
from tests.profile.published import header_bytes, published_headers

ENTRIES = [entry for entry in models.load_models() if entry.library != "code"]
SIZED = [entry.id for entry in ENTRIES if entry.checkpoint_bytes]
COMPUTED = [entry.id for entry in ENTRIES if entry.computed_bytes]
QUANTIZED = [entry.id for entry in ENTRIES if entry.quantization_config]
FUSED = ["mistralai/Mixtral-8x22B-v0.1", "Qwen/Qwen3-30B-A3B"]
"""Experts that the checkpoint holds one by one, not quantized."""
NUM_SHARDS = {"deepseek-ai/DeepSeek-V3": 163, "MiniMaxAI/MiniMax-M2": 130}
"""Of the published files: their number is in the names of the shards."""


FEW = ["moonshotai/Kimi-K2-Thinking", "openai/gpt-oss-20b", "mistralai/Mixtral-8x22B-v0.1"]
"""One of each kind; the others are of the same kinds and take minutes."""


def few_first(names: list[str]) -> list:
    slow = pytest.mark.slow
    return [name if name in FEW else pytest.param(name, marks=slow) for name in names]


def slow_with_headers(names: list[str]) -> list:
    """Where the headers of whole files count too, every name has to be made: seconds."""
    slow = pytest.mark.slow
    large = [name for name in names if models.load_entry(name).counts_headers]
    return [pytest.param(name, marks=slow) if name in large else name for name in names]


def checkpoint_bytes(
    model: nn.Module,
    *,
    dtype: torch.dtype,
    quantization_config: Mapping[str, Any] | None = None,
) -> int:
    """Bytes of the tensors that a checkpoint of the class holds.

    Parameters
    ----------
    model
        Skeleton on the meta device, built in `dtype` and not quantized.
    quantization_config
        Of the checkpoint.

    Raises
    ------
    InputError
        When the quantization method is unknown.
    """
    packed: Mapping[str, int] = {}
    if quantization_config is not None:
        packed = quantized_bytes(model, quantization_config, dtype=dtype).bytes
    weights = sum(packed.get(name, p.nbytes) for name, p in model.named_parameters())
    return weights + sum(buffer.nbytes for buffer in _persistent_buffers(model))


def _persistent_buffers(model: nn.Module) -> list[torch.Tensor]:
    """Buffers that ``state_dict`` has; shared ones once."""
    found = {
        id(buffer): buffer
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and name not in module._non_persistent_buffers_set
    }
    return list(found.values())


@functools.cache
def headers(name: str):
    return published_headers(models.load_entry(name), skeleton(name).model)


@functools.cache
def skeleton(name: str):
    return build_skeleton(resolve_catalogue(models.load_entry(name)))


def computed(name: str) -> int:
    entry, built = models.load_entry(name), skeleton(name)
    held = checkpoint_bytes(
        built.model, dtype=built.dtype, quantization_config=entry.quantization_config
    )
    return held + sum(entry.checkpoint_beyond.values())


def test_nobody_is_forgotten():
    assert len(SIZED) >= 18
    for entry in ENTRIES:
        assert entry.stored_bytes, f"{entry.id}: run this file, and give its computed_bytes"


@pytest.mark.parametrize("name", slow_with_headers(SIZED))
def test_the_computed_total_is_the_published_one(name):
    entry = models.load_entry(name)
    if not entry.counts_headers:
        assert computed(name) == entry.checkpoint_bytes
        return
    tensors = headers(name)
    beyond = 1 + sum(entry.checkpoint_beyond.values()) / computed(name)
    expected = header_bytes(tensors, NUM_SHARDS[name]) * beyond
    assert entry.checkpoint_bytes - computed(name) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", COMPUTED)
def test_a_total_that_nobody_published_is_what_is_computed(name):
    assert models.load_entry(name).computed_bytes == computed(name)


@pytest.mark.parametrize("name", few_first([*QUANTIZED, *FUSED]))
def test_tensor_by_tensor_as_the_checkpoint_stores_them(name):
    entry, built = models.load_entry(name), skeleton(name)
    tensors = headers(name)
    found = stored_bytes(built.model, tensors)
    assert not found.unmatched and not found.missing
    assert sum(found.bytes.values()) + sum(found.buffers.values()) == sum(
        tensor.bytes for tensor in tensors.values()
    )
    total = sum(tensor.bytes for tensor in tensors.values())
    assert total + sum(entry.checkpoint_beyond.values()) == computed(name)


@pytest.mark.parametrize("name", few_first(QUANTIZED))
def test_every_module_has_the_same_bytes_by_headers_and_by_formula(name):
    entry, built = models.load_entry(name), skeleton(name)
    sites = partition(built.model, built.no_split)
    by_formula, by_headers = (
        measure_weights(
            built,
            sites,
            quantization_config=entry.quantization_config,
            stored=stored,
            packed=True,
        )
        for stored in (None, headers(name))
    )
    assert {n: b.weight_bytes for n, b in by_formula.blocks.items()} == {
        n: b.weight_bytes for n, b in by_headers.blocks.items()
    }
