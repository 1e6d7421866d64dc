"""Names of dtypes, and what ``from_pretrained`` leaves in another dtype than the model's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from devplan.core.dtypes import dtype_name, parse_dtype
from devplan.core.errors import InputError
from devplan.profile.dtypes import dtype_exceptions
from devplan.profile.tree import named_modules, named_parameters
from tests.profile.quant_skeletons import DTYPE

TINY_LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 32,
}
TINY_T5 = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 2, "vocab_size": 32}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("bfloat16", torch.bfloat16),
        ("torch.bfloat16", torch.bfloat16),
        ("BF16", torch.bfloat16),
        (" fp16 ", torch.float16),
        ("half", torch.float16),
        ("float", torch.float32),
        ("fp8", torch.float8_e4m3fn),
        ("float8_e5m2", torch.float8_e5m2),
        (torch.int8, torch.int8),
    ],
)
def test_names_of_dtypes(name, dtype):
    assert parse_dtype(name) is dtype
    assert parse_dtype(dtype_name(dtype)) is dtype


@pytest.mark.parametrize("name", ["bfloat61", "Tensor", "", "nn", "auto"])
def test_what_is_no_dtype_is_refused_in_one_line(name):
    with pytest.raises(InputError) as refused:
        parse_dtype(name)
    message = str(refused.value)
    assert repr(name) in message and "\n" not in message and "bfloat16" in message


def test_eight_bit_floats_take_one_byte():
    assert parse_dtype("float8_e4m3fn").itemsize == parse_dtype("float8_e5m2").itemsize == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_exceptions_are_those_of_from_pretrained(tmp_path, dtype):
    """T5 keeps ``wo`` in float32 when loaded in float16, and only then."""
    config = T5Config(**TINY_T5)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    loaded = T5ForConditionalGeneration.from_pretrained(tmp_path, **{DTYPE: dtype})
    actual = {n: p.dtype for n, p in loaded.named_parameters() if p.dtype != dtype}
    with torch.device("meta"):
        skeleton = T5ForConditionalGeneration._from_config(config, **{DTYPE: dtype})
    assert dtype_exceptions(skeleton, dtype) == actual
    assert bool(actual) == (dtype is torch.float16)


def test_strictly_kept_modules_stay_in_float32_in_bfloat16_too():
    config = LlamaConfig(**TINY_LLAMA)
    with torch.device("meta"):
        skeleton = LlamaForCausalLM._from_config(config, **{DTYPE: torch.bfloat16})
    skeleton._keep_in_fp32_modules_strict = {"layers.*.input_layernorm"}
    if not hasattr(skeleton, "_get_dtype_plan"):
        pytest.skip("this transformers has no strict list")
    found = dtype_exceptions(skeleton, torch.bfloat16)
    assert found == {"model.layers.0.input_layernorm.weight": torch.float32}


def test_a_model_without_a_dtype_plan_goes_by_whole_components():
    """As transformers did before it had ``_get_dtype_plan``: ``wo`` is not in ``work.weight``."""
    with torch.device("meta"):
        model = nn.ModuleDict({"wo": nn.Linear(2, 2), "work": nn.Linear(2, 2)}).half()
    model._keep_in_fp32_modules = ["wo"]
    assert set(dtype_exceptions(model, torch.float16)) == {"wo.weight", "wo.bias"}
    assert dtype_exceptions(model.bfloat16(), torch.bfloat16) == {}


def test_parameters_that_the_class_makes_in_another_dtype_keep_it():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 2).bfloat16(), nn.Linear(2, 2))
        model.steps = nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False)
    assert dtype_exceptions(model, torch.bfloat16) == {
        "steps": torch.int64,
        "1.weight": torch.float32,
        "1.bias": torch.float32,
    }


def test_the_flat_lists_are_those_of_torch():
    config = T5Config(**TINY_T5)
    with torch.device("meta"):
        model = T5ForConditionalGeneration(config)  # with tied embeddings
    modules = named_modules(model)
    assert modules == list(model.named_modules())
    ours = [(name, id(parameter)) for name, parameter in named_parameters(modules)]
    assert ours == [(name, id(parameter)) for name, parameter in model.named_parameters()]
