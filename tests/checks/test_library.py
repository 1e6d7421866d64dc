"""``devplan.check`` as a test suite calls it: one line, in every form of the model."""

from __future__ import annotations

import threading

import torch
from accelerate import dispatch_model
from transformers import AutoConfig, AutoModelForCausalLM, CLIPVisionConfig, CLIPVisionModel

import devplan
from tests.checks.case import model_name

LLAMA = model_name("tiny_llama")
GOOD = {
    "model.embed_tokens": 0,
    "model.rotary_emb": 0,
    **{f"model.layers.{layer}": layer // 3 for layer in range(6)},
    "model.norm": 0,
    "lm_head": 0,
}
ABSENT = {**GOOD, "model.layers.5": "hip:7"}


def test_a_name_and_a_configuration():
    assert devplan.check(LLAMA, GOOD).is_clean
    assert devplan.check(AutoConfig.from_pretrained(LLAMA), GOOD).is_clean
    assert not devplan.check(LLAMA, ABSENT).is_clean


def test_a_loaded_model_is_checked_and_left_alone():
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(LLAMA)).eval()
    ids = torch.arange(8)[None]
    before = model(ids).logits
    assert devplan.check(model, GOOD).is_clean
    assert not devplan.check(model, ABSENT).is_clean
    assert torch.equal(model(ids).logits, before)


def test_a_loaded_model_with_hooks_and_its_own_map():
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(LLAMA)).eval()
    whole = dict.fromkeys(GOOD, "cpu")
    dispatch_model(model, whole, main_device="cpu", force_hooks=True)
    hooked, ids = model.forward, torch.arange(8)[None]
    before = model(ids).logits
    assert devplan.check(model, GOOD).is_clean
    assert devplan.check(model, model.hf_device_map).runs
    assert model.forward is hooked and torch.equal(model(ids).logits, before)


def test_a_loaded_model_with_weights_on_disk(tmp_path):
    """Its embeddings have a buffer that is not stored: position_ids."""
    size = {"hidden_size": 32, "intermediate_size": 64, "image_size": 32, "patch_size": 16}
    config = CLIPVisionConfig(num_hidden_layers=2, num_attention_heads=2, **size)
    model = CLIPVisionModel(config).eval()
    on_disk = {name: "disk" for name, _ in model.named_children()}
    dispatch_model(model, on_disk, offload_dir=str(tmp_path))
    pixels = torch.ones(1, 3, 32, 32)
    before = model(pixels).last_hidden_state
    assert devplan.check(model, model.hf_device_map).is_clean
    assert torch.equal(model(pixels).last_hidden_state, before)


def test_one_thread_after_another():
    seen = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: seen.append(devplan.check(LLAMA, GOOD)))
        thread.start()
        thread.join()
    assert [result.is_clean for result in seen] == [True, True]
    assert seen[0].runs == seen[1].runs
