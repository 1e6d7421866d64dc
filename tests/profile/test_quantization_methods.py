"""MXFP4 and the methods with scales per row; the table of methods; the rules for what stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from devplan.core.errors import InputError
from devplan.profile.quantization import METHODS, quantization_config_of, quantized_bytes
from devplan.profile.quantization.linears import fused_weights
from devplan.profile.quantization.skips import Skips, default_skips
from devplan.profile.tree import named_modules
from tests.profile.quant_skeletons import BF16, TINY, skeleton, total_bytes

MXFP4 = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}
GPT_OSS_20B = {"num_hidden_layers": 24, "num_local_experts": 32}

# --------------------------------------------------------------------------------------- MXFP4


@pytest.mark.parametrize(
    ("hyperparameters", "stored"), [(GPT_OSS_20B, 13_761_264_768), ({}, 65_248_815_744)]
)
def test_gpt_oss_is_stored_in_the_published_bytes(hyperparameters, stored):
    """``total_size`` of the checkpoints' indices on the hub, openai/gpt-oss-20b and -120b."""
    pytest.importorskip("transformers.models.gpt_oss")
    model = skeleton("GptOssConfig", "GptOssForCausalLM", **hyperparameters)
    sizes = quantized_bytes(model, MXFP4, dtype=BF16)
    assert total_bytes(model, sizes.bytes) == stored
    biases = sum(p.numel() for n, p in model.named_parameters() if "proj_bias" in n)
    assert total_bytes(model, sizes.resident) == stored + 2 * biases  # bfloat16 to float32


def test_packed_experts_are_those_of_transformers():
    mxfp4 = pytest.importorskip("transformers.integrations.mxfp4")
    hyperparameters = {**GPT_OSS_20B, "num_hidden_layers": 1}
    model = skeleton("GptOssConfig", "GptOssForCausalLM", **hyperparameters)
    with torch.device("meta"):
        real = mxfp4.Mxfp4GptOssExperts(model.config)
    resident = quantized_bytes(model, MXFP4, dtype=BF16).resident
    name = "model.layers.0.mlp.experts"
    for projection in ("gate_up_proj", "down_proj"):
        bias = getattr(real, f"{projection}_bias")
        assert resident[f"{name}.{projection}_bias"] == bias.nbytes
        packed = resident[f"{name}.{projection}"]
        weights = model.get_parameter(f"{name}.{projection}").numel()
        real_packed = getattr(real, projection)
        if real_packed.dim() == 3:  # older releases have the blocks in a dimension of their own
            assert packed == real_packed.nbytes + weights // 32


def test_listed_experts_stay():
    model = skeleton("GptOssConfig", "GptOssForCausalLM", **{**GPT_OSS_20B, "num_hidden_layers": 2})
    config = {**MXFP4, "modules_to_not_convert": ["model.layers.1.mlp"]}
    sizes = quantized_bytes(model, config, dtype=BF16)
    assert {name.split(".mlp")[0] for name in sizes.bytes} == {"model.layers.0"}


def test_experts_of_other_models_are_not_packed(tiny_moe):
    sizes = quantized_bytes(tiny_moe, {"quant_method": "mxfp4"}, dtype=BF16)
    assert sizes.bytes == {} and "gpt-oss" in sizes.unquantized["model.layers.0.mlp.experts"]


# ----------------------------------------------------------------------- one byte a weight, rows

# method config -> bytes of model.layers.0.mlp.down_proj.weight, [64, 96] in bfloat16
PER_ROW = {
    "eetq": ({"quant_method": "eetq", "weights": "int8"}, 6144 + 64 * 2),
    "fbgemm_fp8": ({"quant_method": "fbgemm_fp8"}, 6144 + 64 * 4 + 4),
    # quanto, measured: data, one bfloat16 scale a row, two scalar scales of activations
    "quanto int8": ({"quant_method": "quanto", "weights": "int8"}, 6144 + 64 * 2 + 4),
    "quanto float8": ({"quant_method": "quanto", "weights": "float8"}, 6144 + 64 * 2 + 4),
    # 96 inputs are no more than a group: one scale and one shift a row
    "quanto int4": ({"quant_method": "quanto", "weights": "int4"}, 3072 + 64 * 4 + 4),
    "quanto int2": ({"quant_method": "quanto", "weights": "int2"}, 1536 + 64 * 4 + 4),
    # torchao, measured: float32 scale and int8 zero point a row
    "torchao int8": (
        {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}}},
        6144 + 64 * 4 + 64,
    ),
    "torchao float8": (
        {"quant_method": "torchao", "quant_type": {"default": {"_type": "Float8WeightOnlyConfig"}}},
        6144 + 64 * 4,
    ),
}


@pytest.mark.parametrize("case", PER_ROW)
def test_bytes_of_a_linear(tiny_llama, case):
    config, expected = PER_ROW[case]
    sizes = quantized_bytes(tiny_llama, config, dtype=BF16)
    assert sizes.bytes["model.layers.0.mlp.down_proj.weight"] == expected
    assert sizes.unquantized == {"lm_head": "output embedding"}


@pytest.mark.parametrize(
    ("weights", "shape", "measured"),
    [
        # (out, in) -> bytes of data, scale and shift, read off optimum-quanto 0.2.7
        ("int4", (128, 256), 16384 + 1024),
        ("int4", (33, 100), 1700 + 66 + 66),
        ("int2", (128, 256), 8192 + 512 + 512),
        ("int2", (33, 100), 900 + 66 + 66),
    ],
)
def test_quanto_below_8_bits_as_measured(weights, shape, measured):
    with torch.device("meta"):
        model = torch.nn.Sequential(torch.nn.Linear(*shape[::-1]), torch.nn.LayerNorm(4)).bfloat16()
    config = {"quant_method": "quanto", "weights": weights}
    assert quantized_bytes(model, config, dtype=BF16).bytes["0.weight"] == measured + 4


@pytest.mark.parametrize(
    ("in_features", "group"),
    [
        # as optimum-quanto 0.2.7 chooses: all up to 128, else the largest of four that divides
        (127, 127),
        (128, 128),
        (384, 128),
        (129, 129),
        (192, 96),
        (320, 64),
        (160, 32),
        (200, 200),
    ],
)
def test_inputs_of_quanto_that_share_a_scale_and_a_shift(in_features, group):
    with torch.device("meta"):
        linear = torch.nn.Linear(in_features, 8)
        model = torch.nn.Sequential(linear, torch.nn.LayerNorm(4)).bfloat16()
    sizes = quantized_bytes(model, {"quant_method": "quanto", "weights": "int4"}, dtype=BF16)
    scales = 8 * in_features // group
    assert sizes.bytes["0.weight"] == 4 * in_features + scales * (2 + 2) + 4


def test_quanto_against_the_installed_package():
    quanto = pytest.importorskip("optimum.quanto")
    with torch.device("meta"):
        model = torch.nn.Sequential(torch.nn.Linear(256, 128), torch.nn.LayerNorm(4)).bfloat16()
    for weights in ("int8", "float8"):
        kind = getattr(quanto, f"q{weights}")
        linear = quanto.QLinear(256, 128, dtype=BF16, weights=kind)
        linear.freeze()
        packed = linear.weight
        actual = packed._data.nbytes + packed._scale.nbytes
        actual += linear.input_scale.nbytes + linear.output_scale.nbytes
        config = {"quant_method": "quanto", "weights": weights}
        assert quantized_bytes(model, config, dtype=BF16).bytes["0.weight"] == actual


def test_biases_that_change_their_dtype(biased_llama):
    name = "model.layers.0.self_attn.q_proj.bias"
    fbgemm = quantized_bytes(biased_llama, {"quant_method": "fbgemm_fp8"}, dtype=BF16)
    eetq = quantized_bytes(biased_llama, {"quant_method": "eetq"}, dtype=BF16)
    assert fbgemm.resident[name] == 64 * 4  # float32
    assert name not in eetq.resident  # float16, as many bytes as bfloat16


def test_fbgemm_converts_the_experts_of_llama_4_alone(tiny_moe):
    config = {"quant_method": "fbgemm_fp8"}
    assert not [n for n in quantized_bytes(tiny_moe, config, dtype=BF16).bytes if "experts" in n]
    pytest.importorskip("transformers.models.llama4")
    model = skeleton("Llama4TextConfig", "Llama4ForCausalLM", num_hidden_layers=2)
    sizes = quantized_bytes(model, config, dtype=BF16)
    experts, hidden = model.config.num_local_experts, model.config.hidden_size
    intermediate = model.config.intermediate_size
    packed = sizes.bytes["model.layers.0.feed_forward.experts.gate_up_proj"]
    assert packed == experts * 2 * intermediate * (hidden + 4) + 4


@pytest.mark.parametrize("config", [{"weights": "int3"}, {"weights": None}])
def test_quanto_weights_that_do_not_exist(tiny_llama, config):
    with pytest.raises(InputError, match="float8, int8, int4 and int2"):
        quantized_bytes(tiny_llama, {"quant_method": "quanto", **config}, dtype=BF16)


def test_torchao_layouts_that_depend_on_the_card_are_refused(tiny_llama):
    config = {
        "quant_method": "torchao",
        "quant_type": {"default": {"_type": "Int4WeightOnlyConfig"}},
    }
    with pytest.raises(InputError, match=r"Int4WeightOnlyConfig.*headers"):
        quantized_bytes(tiny_llama, config, dtype=BF16)


# ----------------------------------------------------------------------------- table and configs


def test_an_unknown_method_is_named_with_the_known_ones(tiny_llama):
    with pytest.raises(InputError) as refused:
        quantized_bytes(tiny_llama, {"quant_method": "gtpq"}, dtype=BF16)
    message = str(refused.value)
    assert "'gtpq'" in message and "did you mean gptq" in message and "headers" in message
    assert all(method in message for method in METHODS) and "\n" not in message


def test_a_config_without_a_method_is_refused(tiny_llama):
    with pytest.raises(InputError, match=r"no quant_method; it holds bits"):
        quantized_bytes(tiny_llama, {"bits": 4}, dtype=BF16)


def test_the_config_is_found_where_transformers_looks():
    nested = {"text_config": {"quantization_config": {"quant_method": "fp8"}}}
    assert quantization_config_of(nested) == {"quant_method": "fp8"}
    assert quantization_config_of({"quantization_config": {"quant_method": "awq"}, **nested}) == {
        "quant_method": "awq"
    }
    assert quantization_config_of({}) is None


def test_every_method_is_documented():
    document = Path(__file__).parents[2] / "docs" / "quantization.md"
    text = document.read_text(encoding="utf-8")
    assert [method for method in METHODS if f"`{method}`" not in text] == []


# ----------------------------------------------------------------------------------- what stays

_PART = st.sampled_from(["model", "layers", "0", "1", "11", "mlp", "gate", "gate_proj", "lm_head"])
_NAME = st.lists(_PART, min_size=1, max_size=5).map(".".join)
_PATTERN = st.one_of(_NAME, st.sampled_from(["model.layers.*.mlp", "layers.1", "a|mlp", "gate$"]))


@settings(max_examples=300, deadline=None)
@given(_NAME, st.lists(_PATTERN, max_size=4))
def test_patterns_are_met_as_transformers_meets_them(name, patterns):
    utils = pytest.importorskip("transformers.quantizers.quantizers_utils")
    if not hasattr(utils, "should_convert_module"):
        pytest.skip("this transformers has a rule in every quantizer")
    reason = Skips(dict.fromkeys(patterns, "because")).reason(name)
    assert (reason is None) == utils.should_convert_module(name, patterns)


def test_a_pattern_that_is_no_expression_is_refused(tiny_llama):
    config = {"quant_method": "fp8", "modules_to_not_convert": ["*.gate"]}
    with pytest.raises(InputError, match="regular expression"):
        quantized_bytes(tiny_llama, config, dtype=BF16)


@pytest.mark.parametrize(
    ("config_class", "model_class", "hyperparameters"),
    [
        ("LlamaConfig", "LlamaForCausalLM", TINY),
        ("LlamaConfig", "LlamaForCausalLM", {**TINY, "tie_word_embeddings": True}),
        ("LlamaConfig", "LlamaModel", TINY),
        ("GPT2Config", "GPT2LMHeadModel", {"n_layer": 1}),
        ("WhisperConfig", "WhisperForConditionalGeneration", {"encoder_layers": 1}),
    ],
)
def test_default_skips_are_those_of_transformers(config_class, model_class, hyperparameters):
    base = pytest.importorskip("transformers.quantizers.base")
    if not hasattr(base, "get_keys_to_not_convert"):
        pytest.skip("this transformers has them in the integration of bitsandbytes")
    model = skeleton(config_class, model_class, **hyperparameters)
    ours = default_skips(model, named_modules(model))
    assert set(ours) == set(base.get_keys_to_not_convert(model))


@pytest.mark.parametrize("transposed", [False, True])
def test_the_orientation_of_experts_is_read_off_their_shapes(transposed):
    """Classes outside transformers' interface do not say whether they are transposed."""
    experts, intermediate, hidden = 3, 8, 20
    shapes = {
        "gate_up_proj": (experts, 2 * intermediate, hidden),
        "down_proj": (experts, hidden, intermediate),
    }
    with torch.device("meta"):
        model = torch.nn.Module()
        model.experts = torch.nn.Module()
        for name, (count, rows, columns) in shapes.items():
            shape = (count, columns, rows) if transposed else (count, rows, columns)
            setattr(model.experts, name, torch.nn.Parameter(torch.empty(shape)))
    gate_up, down = fused_weights(named_modules(model))
    assert gate_up.linear == (intermediate, hidden, 2 * experts)
    assert down.linear == (hidden, intermediate, experts)
    assert gate_up.fused_out_features == 2 * intermediate
