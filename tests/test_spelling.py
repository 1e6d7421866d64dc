"""Names that were mistyped find what was meant; names of something else find nothing."""

from __future__ import annotations

import pytest

from devplan.catalog import gpus
from devplan.checker.baselines import STRATEGIES
from devplan.cli.options import SETTINGS
from devplan.core.devices import from_hf_device
from devplan.core.errors import InputError, nearest
from devplan.core.spelling import near_names
from devplan.models.from_catalog import did_you_mean
from devplan.planning.objectives import OBJECTIVES
from devplan.rules.table import RULES

MODULES = (
    "model",
    "model.embed_tokens",
    "model.language_model.norm",
    "model.layers",
    *(f"model.layers.{index}" for index in range(12)),
    *(f"model.layers.{index}.self_attn.q_proj" for index in range(12)),
    "model.visual",
    "model.visual.patch_embed",
    "lm_head",
)
CLASSES = (
    "BertModel",
    "GPT2LMHeadModel",
    "LlamaForCausalLM",
    "LlamaForSequenceClassification",
    "OPTForCausalLM",
    "Qwen2VLForConditionalGeneration",
    "WhisperForConditionalGeneration",
)
TYPES = ("bert", "gemma", "granite", "gpt2", "llama", "mistral", "opt", "phi3", "qwen2_vl", "t5")
FORMATS = ("text", "json", "sarif", "github", "junit")
DTYPES = ("bfloat16", "float16", "float32", "bf16", "fp16", "fp32")


@pytest.mark.parametrize(
    ("typed", "known", "meant"),
    [
        # letters swapped, missing, doubled, replaced
        ("balacne", OBJECTIVES, "balance"),
        ("latancy", OBJECTIVES, "latency"),
        ("ontext", OBJECTIVES, "context"),
        ("fewwest", OBJECTIVES, "fewest"),
        ("Balance", OBJECTIVES, "balance"),
        ("jsno", FORMATS, "json"),
        ("txt", FORMATS, "text"),
        ("sarf", FORMATS, "sarif"),
        ("git-hub", FORMATS, "github"),
        ("bfloat61", DTYPES, "bfloat16"),
        ("flaot32", DTYPES, "float32"),
        ("atuo", STRATEGIES, "auto"),
        ("balanced_lo_0", STRATEGIES, "balanced_low_0"),
        ("sequental", STRATEGIES, "sequential"),
        # keys of settings
        ("contxt", SETTINGS, "context"),
        ("context_length", SETTINGS, "context"),
        ("max-context", SETTINGS, "context"),
        ("gpu", SETTINGS, "gpus"),
        ("kv_dtype", SETTINGS, "kv-dtype"),
        ("imagesize", SETTINGS, "image-size"),
        ("pins", SETTINGS, "pin"),
        # rules
        ("DP3O1", RULES, "DP301"),
        ("dp301", RULES, "DP301"),
        ("DP 301", RULES, "DP301"),
        # GPUs
        ("rtx4091", gpus.gpu_ids(), "rtx-4090"),
        ("rtx-5095", gpus.gpu_ids(), "rtx-5090"),
        ("h1000", gpus.gpu_ids(), "h100"),
        ("a100-80g", gpus.gpu_ids(), "a100-80gb"),
        ("rtx-6000-ada", gpus.gpu_ids(), "rtx-6000-ada"),
        # model types and classes
        ("lama", TYPES, "llama"),
        ("lama3", TYPES, "llama"),
        ("mistrl", TYPES, "mistral"),
        ("qwen2-vl", TYPES, "qwen2_vl"),
        ("LlamaForCausalML", CLASSES, "LlamaForCausalLM"),
        ("LamaForCausalLM", CLASSES, "LlamaForCausalLM"),
        ("llamaforcausallm", CLASSES, "LlamaForCausalLM"),
        ("QwenVLForConditionalGeneration", CLASSES, "Qwen2VLForConditionalGeneration"),
        ("Gpt2LmHeadModel", CLASSES, "GPT2LMHeadModel"),
        # modules
        ("model.layer.3", MODULES, "model.layers.3"),
        ("model.layrs", MODULES, "model.layers"),
        ("layers.3", MODULES, "model.layers.3"),
        ("model.layers.3.self_atn.q_proj", MODULES, "model.layers.3.self_attn.q_proj"),
        ("language_model.model.norm", MODULES, "model.language_model.norm"),
        ("norm", MODULES, "model.language_model.norm"),
        ("visul", MODULES, "model.visual"),
        ("embed_token", MODULES, "model.embed_tokens"),
        ("lm_heads", MODULES, "lm_head"),
        ("model.lm_head", MODULES, "lm_head"),
    ],
)
def test_a_typo_finds_its_name(typed, known, meant):
    assert near_names(typed, known)[0] == meant


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Qwen2.5-VL-7B", "Qwen/Qwen2.5-VL-7B-Instruct"),
        ("qwen2.5-vl-7b-instuct", "Qwen/Qwen2.5-VL-7B-Instruct"),
        ("qwen25vl7b", "Qwen/Qwen2.5-VL-7B-Instruct"),
        ("Qwen/Qwen2.5-VL-7B-Instruct-AWQ", "Qwen/Qwen2.5-VL-7B-Instruct"),
        ("qwen3-8", "Qwen/Qwen3-8B"),
        ("Qwen/Qwen3-9B", "Qwen/Qwen3-8B"),
        ("deepsek-v3", "deepseek-ai/DeepSeek-V3"),
        ("mixtrl-8x7b", "mistralai/Mixtral-8x7B-v0.1"),
        ("meta-lama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("lama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct"),
    ],
)
def test_a_mistyped_model_finds_its_name(typed, meant):
    assert did_you_mean(typed).startswith(f"; did you mean {meant}")


STRANGERS = (
    "frobnicate",
    "banana",
    "foobar",
    "hello",
    "asdf",
    "xyz",
    "x",
    "claude",
    "frobnicate-7b",
    "acme/frobnicate",
    "FrobnicateForCausalLM",
    "FooForCausalLM",
    "q" * 5000,
    "",
    "...",
)


@pytest.mark.parametrize("name", STRANGERS, ids=lambda name: name[:24])
def test_a_stranger_finds_nothing(name):
    every = (
        OBJECTIVES,
        FORMATS,
        DTYPES,
        STRATEGIES,
        SETTINGS,
        RULES,
        gpus.gpu_ids(),
        TYPES,
        CLASSES,
    )
    for known in (*every, MODULES):
        assert nearest(name, known) == ""
    assert did_you_mean(name) == ""


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        ("gpu", ("cpu", "disk")),
        ("ram", ("cpu", "disk")),
        ("xml", FORMATS),
        ("markdown", FORMATS),
        ("speed", OBJECTIVES),
        ("throughput", OBJECTIVES),
        ("tpu", gpus.gpu_ids()),
        ("voodoo2", gpus.gpu_ids()),
        ("name", SETTINGS),
        ("transformer.wte", MODULES),
        ("gemini", TYPES),
    ],
)
def test_a_short_word_is_not_another_short_word(typed, known):
    assert near_names(typed, known) == []


def test_names_that_are_the_same_but_for_case_and_separators_stand_alone():
    assert nearest("KV_DTYPE", ["dtype", "kv-dtype", "kv-dtypes"]) == "; did you mean kv-dtype?"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("gpu1", "cuda:1"),
        ("gpu:1", "cuda:1"),
        ("GPU 2", "cuda:2"),
        ("gpu", "cuda:0"),
        ("cuda1", "cuda:1"),
        ("cuda-1", "cuda:1"),
        ("CUDA:1", "cuda:1"),
        ("cuda:01", "cuda:1"),
        ("cdua:1", "cuda:1"),
        ("card0", "cuda:0"),
        ("cpu:0", "cpu"),
        ("cup", "cpu"),
        ("dsik", "disk"),
    ],
)
def test_a_device_in_other_words_finds_its_name(typed, meant):
    with pytest.raises(InputError, match=rf"is not a device; did you mean {meant}\?$"):
        from_hf_device(typed)


@pytest.mark.parametrize("typed", ["frobnicate", "first", "cuda:-1", "x:0", "0,1", "cuda:0:1"])
def test_what_is_no_device_at_all_gets_the_forms(typed):
    with pytest.raises(InputError, match=r"is not a device; write 0, cuda:0, cpu or disk$"):
        from_hf_device(typed)
