"""A training step with the cache gives the gradients that it gives without, to the bit.

There is no second device here that could compute, so a copy to "elsewhere" is a clone, which
gradients flow through as they flow through a copy to another card.
"""

from __future__ import annotations

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn

import devplan
from devplan.runtime.caching import TransferCache
from devplan.runtime.copies import Copies
from tests.virtual import tiny

IDS = torch.arange(5, 25).view(2, 10)
MASK = torch.tensor([[0, 0, *[1] * 8], [1] * 10])


def elsewhere(model: nn.Module) -> TransferCache:
    """Hooks that clone what enters a layer, and a cache that is asked for the clones."""
    for layer in model.model.layers:
        add_hook_to_module(layer, AlignDevicesHook(None))
        layer._hf_hook.execution_device = "elsewhere"
    cache = devplan.cache_transfers(model)
    cache._devices["elsewhere"] = torch.device("meta")
    cache._send_other = lambda data, *_: data.clone() if isinstance(data, torch.Tensor) else data
    return cache


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(IDS, attention_mask=MASK, labels=IDS, use_cache=False).loss.backward()
    return {name: each.grad.clone() for name, each in model.named_parameters()}


@pytest.mark.parametrize("checkpointing", [None, False, True], ids=["plain", "new", "reentrant"])
@pytest.mark.parametrize("model_type", ["llama", "gemma2", "mixtral"])
def test_one_step(model_type, checkpointing, monkeypatch):
    model = tiny.real_model(model_type)
    if checkpointing is not None:
        model.gradient_checkpointing_enable({"use_reentrant": checkpointing})
        model.enable_input_require_grads()
        model.train()
    cache = elsewhere(model)
    shared = gradients(model)
    assert cache.last.num_saved > 0
    saved = cache.last
    with monkeypatch.context() as patch:
        patch.setattr(Copies, "get", lambda self, tensor, device, copy: (copy(), True))
        apart = gradients(model)
    assert cache.last.num_saved == 0 and cache.last.num_asked == saved.num_asked
    assert shared.keys() == apart.keys()
    assert all(torch.equal(shared[name], apart[name]) for name in shared)
    assert all(each.abs().sum() > 0 for each in shared.values())
