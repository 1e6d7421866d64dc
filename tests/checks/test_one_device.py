"""A map of one device that leaves tensors out, which transformers 5 loads without accelerate."""

from __future__ import annotations

import pytest
import torch
import transformers
from accelerate import dispatch_model

import devplan
from devplan.core.findings import Severity
from tests.small_models import config_folder

SMALL = {
    "vocab_size": 32,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 4,
}
NO_HEAD = {"model": "cuda:0"}


def checked(tmp_path, device_map, **settings):
    folder = config_folder(tmp_path, "LlamaForCausalLM", "llama", **{**SMALL, **settings})
    return devplan.check(folder, device_map)


def findings(result, code):
    return [each for each in result.findings if each.code == code]


def test_a_tied_weight_lies_with_the_one_that_has_an_entry(tmp_path):
    result = checked(tmp_path, NO_HEAD, tie_word_embeddings=True)
    assert result.runs and not result.errors and not findings(result, "DP001")


def test_a_weight_without_entry_is_run_on_the_cpu(tmp_path):
    result = checked(tmp_path, NO_HEAD, tie_word_embeddings=False)
    (mixed,), (left_out,) = result.errors, findings(result, "DP001")
    assert mixed.code == "DP301" and mixed.module == "lm_head" and "on cpu" in mixed.message
    assert left_out.severity is Severity.WARNING and left_out.module == "lm_head"
    assert "from_pretrained loads them on the CPU" in left_out.message
    repaired = checked(
        tmp_path, {**NO_HEAD, **left_out.fix.changed_entries}, tie_word_embeddings=False
    )
    assert not repaired.errors and not findings(repaired, "DP001")


def test_beside_a_model_on_the_cpu_it_runs(tmp_path):
    result = checked(tmp_path, {"model": "cpu"}, tie_word_embeddings=False)
    assert result.runs and not result.errors and findings(result, "DP001")


def test_on_two_devices_accelerate_refuses_it_tied_or_not(tmp_path):
    two = {"model.embed_tokens": 0, "model.layers": 1, "model.norm": 1, "model.rotary_emb": 0}
    for tied in (True, False):
        result = checked(tmp_path, two, tie_word_embeddings=tied)
        (error,) = result.errors
        assert (error.code, error.module) == ("DP001", "lm_head") and not result.runs


def test_transformers_and_accelerate_do_so(tmp_path):
    """Their own code, asked."""
    config = transformers.LlamaConfig(**SMALL, tie_word_embeddings=False)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    load = transformers.LlamaForCausalLM.from_pretrained
    # [meta] the other device that every machine has.
    loaded = load(tmp_path, device_map={"model": "meta"})
    assert loaded.lm_head.weight.device == torch.device("cpu")
    assert loaded.model.norm.weight.is_meta and not hasattr(loaded.model, "_hf_hook")
    left_out = "does not give any device for the following parameters: lm_head"
    with pytest.raises(ValueError, match=left_out):
        load(tmp_path, device_map={"model": "cpu", "model.layers": "meta"})
    with pytest.raises(ValueError, match=left_out):
        dispatch_model(loaded, {"model": "cpu"})
