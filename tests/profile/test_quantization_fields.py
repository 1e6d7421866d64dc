"""Fields of a quantization config that hold what they cannot: refused by name, for every method."""

from __future__ import annotations

import itertools

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from devplan.core.errors import InputError
from devplan.profile.quantization import METHODS, quantized_bytes

SIZES = ("bits", "w_bit", "group_size", "q_group_size", "weight_block_size")
NAMES = ("modules_to_not_convert", "ignored_layers", "ignore", "llm_int8_skip_modules")
OTHERS = ("config_groups", "dynamic", "modules_in_block_to_quantize", "block_name_to_quantize")
WRONG = (0, -2, 0.5, float("inf"), 10**400, True, "x", "(", [0], [-1, -1], {"a": 1}, {"(": {}})
GROUPS = (
    {"targets": "Linear"},
    {"targets": [1]},
    {"targets": ["re:("], "weights": {"num_bits": 8}},
    {"targets": ["Linear"], "weights": 5},
    {"targets": ["Linear"], "weights": {"num_bits": 0.5}},
    {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 0, "strategy": "group"}},
    {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": -1, "strategy": "group"}},
    {"targets": ["Linear"], "weights": {"num_bits": 8, "block_structure": [0, 1]}},
)


@pytest.fixture(scope="module")
def model():
    config = LlamaConfig(
        num_hidden_layers=1, hidden_size=32, intermediate_size=32, num_attention_heads=2
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


def usual(method: str) -> dict:
    if method.startswith("bitsandbytes"):
        return {"quant_method": "bitsandbytes", f"load_in_{method[-4:]}": True}
    group = {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 32}}
    further = {
        "gptq": {"bits": 4},
        "torchao": {"quant_type": "Int8WeightOnlyConfig"},
        "compressed-tensors": {"format": "pack-quantized", "config_groups": {"a": group}},
    }
    return {"quant_method": method, **further.get(method, {})}


@pytest.mark.parametrize("method", METHODS)
def test_every_wrong_value_is_refused_or_counted(model, method):
    tried = itertools.product((*SIZES, *NAMES, *OTHERS), (None, *WRONG))
    groups = (("config_groups", {"a": group}) for group in GROUPS)
    refused = 0
    for field, value in (*tried, *groups):
        try:
            sizes = quantized_bytes(model, {**usual(method), field: value}, dtype=torch.bfloat16)
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 400
            refused += 1
        else:
            assert all(type(size) is int and size >= 0 for size in sizes.bytes.values())
    assert refused > 100


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("modules_to_not_convert", 0.5, "modules_to_not_convert of the quantization config is 0.5"),
        ("group_size", 0, "group_size of the quantization config is 0; it must be -1 or"),
        ("quant_method", ["gptq"], "quant_method of the quantization config is ['gptq']"),
        ("quant_method", 10**300, "quant_method of the quantization config is 1000"),
        ("dynamic", {"+:(": {}}, "dynamic of the quantization config"),
        ("dynamic", {"x": {"bits": "4"}}, "bits of the quantization config is '4'"),
    ],
)
def test_the_field_is_named(model, field, value, said):
    with pytest.raises(InputError) as caught:
        quantized_bytes(model, {**usual("gptq"), field: value}, dtype=torch.bfloat16)
    assert said in str(caught.value)
