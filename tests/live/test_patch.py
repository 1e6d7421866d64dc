"""A patched embedding is the embedding that it was: names, weights, ties, copies, gradients."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from accelerate.hooks import remove_hook_from_module
from torch import nn
from transformers import AutoModelForCausalLM

import devplan
from devplan.core.errors import InputError
from devplan.runtime.patching import (
    PatchedEmbedding,
    input_embedding_names,
    patch_of,
    patched_embeddings,
)
from tests.virtual import tiny

IDS = torch.arange(5, 25).view(2, 10)
EMBEDDING = "model.embed_tokens"


@pytest.fixture
def llama() -> nn.Module:
    return tiny.real_model("llama")


def content(model: nn.Module) -> dict:
    """Everything that hangs on the modules, containers copied."""
    return {
        name: {k: dict(v) if isinstance(v, dict) else v for k, v in vars(module).items()}
        for name, module in model.named_modules()
    }


def logits(model: nn.Module, **inputs) -> torch.Tensor:
    with torch.no_grad():
        return model(**(inputs or {"input_ids": IDS})).logits


# ---------------------------------------------------------------------------------- what is patched


def test_the_input_embedding_by_default(llama):
    patched = devplan.patch_embeddings(llama)
    assert patched == (PatchedEmbedding(name=EMBEDDING, device=None),)
    assert patched_embeddings(llama) == patched


def test_embeddings_that_share_the_weight_are_patched_too():
    model = tiny.real_model("t5")
    names = {each.name for each in devplan.patch_embeddings(model)}
    sharing = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and module.weight is model.shared.weight
    }
    assert names == sharing and "shared" in names


def test_offloaded_embeddings_that_share_the_weight():
    model = tiny.real_model("t5")
    names = input_embedding_names(model)
    cpu_offload(model, execution_device=torch.device("cpu"))
    assert model.encoder.embed_tokens.weight is not model.shared.weight
    if getattr(model, "all_tied_weights_keys", None):
        assert input_embedding_names(model) == names
    else:  # transformers 4 keeps no list of what is tied
        assert "shared" in input_embedding_names(model)


def test_any_module_by_name_with_a_device(llama):
    (patched,) = devplan.patch_embeddings(llama, "model.norm", device=0)
    assert (patched.name, patched.device) == ("model.norm", "cuda:0")
    assert patch_of(llama.model.norm) and not patch_of(llama.model.embed_tokens)


@pytest.mark.parametrize(
    ("names", "device", "says"),
    [
        ("model.embed_token", None, "did you mean model.embed_tokens"),
        (None, "cuda:x", "cuda:x"),
        (["nothing.like.it"], None, "LlamaForCausalLM has no module 'nothing.like.it'"),
    ],
)
def test_refused(llama, names, device, says):
    with pytest.raises(InputError, match=says):
        devplan.patch_embeddings(llama, names, device)
    assert not patched_embeddings(llama) and not llama._forward_pre_hooks


def test_a_model_without_input_embedding_is_refused():
    with pytest.raises(InputError, match="Linear names no input embedding"):
        devplan.patch_embeddings(nn.Linear(2, 2))


# ------------------------------------------------------------------------------ what stays as it is


def test_outputs_names_weights_and_ties(llama):
    llama.config.tie_word_embeddings = True
    llama.tie_weights()
    before, weight = logits(llama), llama.model.embed_tokens.weight
    keys, kind = list(llama.state_dict()), type(llama.model.embed_tokens)
    devplan.patch_embeddings(llama)
    assert torch.equal(logits(llama), before)
    assert list(llama.state_dict()) == keys and type(llama.model.embed_tokens) is kind
    assert llama.get_input_embeddings().weight is weight is llama.lm_head.weight
    llama.tie_weights()
    assert llama.lm_head.weight is llama.model.embed_tokens.weight


def test_generate(llama):
    with torch.no_grad():
        before = llama.generate(IDS, max_new_tokens=4, do_sample=False, num_beams=2)
        devplan.patch_embeddings(llama)
        after = llama.generate(IDS, max_new_tokens=4, do_sample=False, num_beams=2)
    assert torch.equal(before, after)


def test_gradients(llama):
    def gradients():
        llama.zero_grad()
        llama(IDS, labels=IDS).loss.backward()
        return {name: each.grad.clone() for name, each in llama.named_parameters()}

    before = gradients()
    devplan.patch_embeddings(llama)
    after = gradients()
    assert before.keys() == after.keys() and before[f"{EMBEDDING}.weight"].abs().sum() > 0
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_saved_and_loaded(llama, tmp_path):
    devplan.patch_embeddings(llama)
    llama.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(logits(loaded), logits(llama))
    assert patched_embeddings(loaded) == ()


def test_a_state_dict_of_the_plain_model_fits_and_the_other_way(llama):
    plain = copy.deepcopy(llama)
    devplan.patch_embeddings(llama)
    llama.load_state_dict(plain.state_dict(), strict=True)
    plain.load_state_dict(llama.state_dict(), strict=True)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copied_and_pickled(llama, again):
    devplan.patch_embeddings(llama, device=None)
    other = again(llama)
    assert torch.equal(logits(other), logits(llama))
    assert patched_embeddings(other) == patched_embeddings(llama) != ()
    assert patch_of(other.model.embed_tokens) is not patch_of(llama.model.embed_tokens)
    assert repr(other.model.embed_tokens) == repr(llama.model.embed_tokens)
    assert devplan.unpatch_embeddings(other) == (EMBEDDING,)
    assert patched_embeddings(llama) != ()


def test_a_module_alone_is_pickled(llama):
    devplan.patch_embeddings(llama)
    module = pickle.loads(pickle.dumps(llama.model.embed_tokens))
    assert torch.equal(module(IDS), llama.model.embed_tokens(IDS)) and patch_of(module)


# ------------------------------------------------------------------------- seen, twice, and removed


def test_shown_by_repr(llama):
    before = repr(llama)
    devplan.patch_embeddings(llama)
    assert "(embed_tokens): Embedding(99, 32, padding_idx=0, output where the ids are" in repr(
        llama
    )
    devplan.patch_embeddings(llama, device="cuda:1")
    assert "output on cuda:1 (devplan))" in repr(llama.model.embed_tokens)
    devplan.unpatch_embeddings(llama)
    assert repr(llama) == before


def test_a_module_without_words_of_its_own_says_it_too(llama):
    devplan.patch_embeddings(llama, "model.layers.0.mlp")
    assert "output where the ids are (devplan)" in repr(llama.model.layers[0].mlp)


def test_twice_is_once(llama):
    devplan.patch_embeddings(llama)
    once = content(llama)
    devplan.patch_embeddings(llama)
    assert content(llama) == once


def test_removed_without_a_trace(llama):
    before = content(llama)
    devplan.patch_embeddings(llama, [EMBEDDING, "model.layers.1"], device="cpu")
    assert content(llama) != before
    logits(llama)
    assert devplan.unpatch_embeddings(llama) == (EMBEDDING, "model.layers.1")
    assert content(llama) == before
    assert devplan.unpatch_embeddings(llama) == ()


def test_one_of_two_removed(llama):
    devplan.patch_embeddings(llama, [EMBEDDING, "model.norm"])
    assert devplan.unpatch_embeddings(llama, "model.norm") == ("model.norm",)
    logits(llama)
    assert [each.name for each in patched_embeddings(llama)] == [EMBEDDING]


def test_hooks_of_others_stay(llama):
    seen = []
    handle = llama.model.embed_tokens.register_forward_hook(lambda *_: seen.append(1))
    llama.model.embed_tokens.extra_repr = lambda: "mine"
    before = content(llama)
    devplan.patch_embeddings(llama)
    devplan.unpatch_embeddings(llama)
    assert content(llama) == before
    logits(llama)
    handle.remove()
    assert seen == [1]


# -------------------------------------------------------------------------------- another embedding


def test_resized(llama):
    devplan.patch_embeddings(llama)
    llama.resize_token_embeddings(120)
    assert llama.get_input_embeddings().weight.shape == (120, 32)
    logits(llama)
    assert [each.name for each in patched_embeddings(llama)] == [EMBEDDING]


def test_another_module_in_its_place_is_patched_at_the_next_forward(llama):
    devplan.patch_embeddings(llama, device="cpu")
    llama.set_input_embeddings(nn.Embedding(99, 32))
    logits(llama)
    assert patched_embeddings(llama)[0].device == "cpu"
    devplan.unpatch_embeddings(llama)
    llama.set_input_embeddings(nn.Embedding(99, 32))
    logits(llama)
    assert patched_embeddings(llama) == ()


# --------------------------------------------------------------------------------- with accelerate


WHOLE = dict.fromkeys(
    [EMBEDDING, "model.layers", "model.norm", "model.rotary_emb", "lm_head"], "cpu"
)


def test_accelerate_after_before_and_removed(llama):
    before = logits(llama)
    devplan.patch_embeddings(llama)
    dispatch_model(llama, WHOLE, main_device="cpu", force_hooks=True)
    assert torch.equal(logits(llama), before) and patched_embeddings(llama)
    devplan.unpatch_embeddings(llama)
    assert torch.equal(logits(llama), before)
    devplan.patch_embeddings(llama)
    remove_hook_from_module(llama, recurse=True)
    assert torch.equal(logits(llama), before) and patched_embeddings(llama)


def test_offloaded_weights(llama):
    before = logits(llama)
    cpu_offload(llama, execution_device=torch.device("cpu"))
    assert llama.model.embed_tokens.weight.is_meta
    devplan.patch_embeddings(llama)
    assert torch.equal(logits(llama), before)
    assert llama.model.embed_tokens.weight.is_meta


def test_a_copy_of_a_dispatched_model(llama):
    before = logits(llama)
    dispatch_model(llama, WHOLE, main_device="cpu", force_hooks=True)
    devplan.patch_embeddings(llama)
    other = copy.deepcopy(llama)
    assert torch.equal(logits(other), before) and patched_embeddings(other)
