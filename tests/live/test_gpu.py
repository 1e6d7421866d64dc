"""Patch and cache on a real card beside the CPU: ``cuda:0`` and ``cpu`` are two devices.

Not run so far: nothing here has met a GPU.
"""

from __future__ import annotations

import pytest
import torch
from accelerate import dispatch_model
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn

import devplan
from tests.virtual import tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
IDS = torch.arange(5, 25).view(2, 10)
CARD = torch.device("cuda", 0)


def scattered() -> nn.Module:
    """Code on the card, every second layer on the CPU: each of those is sent everything."""
    model = tiny.real_model("llama").to(CARD)
    for layer in model.model.layers[::2]:
        add_hook_to_module(layer, AlignDevicesHook("cpu", place_submodules=True))
    for layer in model.model.layers[1::2]:
        add_hook_to_module(layer, AlignDevicesHook(0, place_submodules=True))
    add_hook_to_module(model, AlignDevicesHook(0, io_same_device=True))
    add_hook_to_module(model.model.norm, AlignDevicesHook(0))
    return model


def test_outputs_with_the_cache_are_those_without():
    model = scattered()
    arguments = {"max_new_tokens": 4, "do_sample": False, "num_beams": 2}
    with torch.no_grad():
        logits = model(IDS.to(CARD)).logits
        tokens = model.generate(IDS.to(CARD), **arguments)
        with devplan.cache_transfers(model) as cache:
            assert torch.equal(model(IDS.to(CARD)).logits, logits)
            assert cache.last.num_made < cache.last.num_asked
            assert torch.equal(model.generate(IDS.to(CARD), **arguments), tokens)


def test_gradients_with_the_cache_are_those_without():
    model = scattered()

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        model(IDS.to(CARD), labels=IDS.to(CARD)).loss.backward()
        return {name: each.grad.clone() for name, each in model.named_parameters()}

    before = gradients()
    with devplan.cache_transfers(model) as cache:
        after = gradients()
        assert cache.last.num_saved > 0
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_another_stream_gets_a_copy_of_its_own():
    from devplan.runtime.copies import Copies

    copies, tensor = Copies(), torch.arange(4.0)
    first, _ = copies.get(tensor, CARD, lambda: tensor.to(CARD))
    with torch.cuda.stream(torch.cuda.Stream()):
        assert copies.get(tensor, CARD, lambda: tensor.to(CARD))[0] is not first


def test_an_embedding_on_the_cpu_patched():
    plain = tiny.real_model("llama").to(CARD)
    with torch.no_grad():
        expected = plain(IDS.to(CARD)).logits
        plain.model.embed_tokens.to("cpu")
        with pytest.raises(RuntimeError, match="device"):
            plain(IDS.to(CARD))
        devplan.patch_embeddings(plain)
        assert torch.equal(plain(IDS.to(CARD)).logits, expected)
        devplan.unpatch_embeddings(plain)


def test_an_offloaded_embedding_patched():
    model = tiny.real_model("llama")
    names = ["model.layers", "model.norm", "model.rotary_emb", "lm_head"]
    with torch.no_grad():
        expected = tiny.real_model("llama").to(CARD)(IDS.to(CARD)).logits
        devplan.patch_embeddings(model)
        device_map = {"model.embed_tokens": "cpu", **dict.fromkeys(names, 0)}
        dispatch_model(model, device_map, main_device=0)
        assert torch.equal(model(IDS.to(CARD)).logits.to(CARD), expected)


def test_gradients_of_a_patched_embedding():
    def gradient(model: nn.Module) -> torch.Tensor:
        model(IDS.to(CARD), labels=IDS.to(CARD)).loss.backward()
        return model.model.embed_tokens.weight.grad.cpu()

    whole, split = tiny.real_model("llama").to(CARD), tiny.real_model("llama").to(CARD)
    split.model.embed_tokens.to("cpu")
    devplan.patch_embeddings(split)
    torch.testing.assert_close(gradient(split), gradient(whole))
