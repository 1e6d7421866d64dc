"""What holds of every method: each linear is counted once, packed or not, and the sums agree.

The bytes in `BY_HAND` are worked out from the layouts that the methods publish, for a linear of 64
inputs and 96 outputs with a bias, and for the fused experts of a small Qwen3-MoE.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from devplan.models.blocks import partition
from devplan.profile.parameters import ParameterSizes
from devplan.profile.profiling import PACKED_NOTE, measure_weights
from devplan.profile.quantization import METHODS, quantized_bytes
from devplan.profile.quantization.linears import fused_weights, linear_shape
from devplan.profile.tree import named_modules
from tests.profile.quant_skeletons import BF16, TINY, TINY_MOE, skeleton
from tests.profile.test_quantization_compressed_tensors import INT4
from tests.profile.test_quantization_compressed_tensors import config as compressed
from tests.virtual.models import skeleton_of_type

FP8 = {"quant_method": "fp8", "weight_block_size": [32, 32]}
CONFIGS = {
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 32},
    "bitsandbytes_4bit": {"load_in_4bit": True},
    "bitsandbytes_8bit": {"load_in_8bit": True},
    "compressed-tensors": compressed(INT4),
    "eetq": {"quant_method": "eetq"},
    "fbgemm_fp8": {"quant_method": "fbgemm_fp8"},
    "fp8": FP8,
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 32},
    "mxfp4": {"quant_method": "mxfp4"},
    "mxfp8": {**FP8, "quant_method": "mxfp8"},
    "quanto": {"quant_method": "quanto", "weights": "int8"},
    "torchao": {"quant_method": "torchao", "quant_type": "Int8WeightOnlyConfig"},
}
MODELS = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", TINY),
    "tied": ("LlamaConfig", "LlamaForCausalLM", {**TINY, "tie_word_embeddings": True}),
    "biased": ("LlamaConfig", "LlamaForCausalLM", {**TINY, "attention_bias": True}),
    "experts": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM", TINY_MOE),
    "conv1d": ("GPT2Config", "GPT2LMHeadModel", {"n_embd": 64, "n_layer": 1, "n_head": 4}),
    "gpt-oss": ("GptOssConfig", "GptOssForCausalLM", {"num_hidden_layers": 1}),
}
# Methods that replace Conv1D of GPT-2 too.
WITH_CONV1D = ("bitsandbytes_4bit", "bitsandbytes_8bit", "gptq")


def test_every_method_has_an_example():
    assert set(CONFIGS) == set(METHODS)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_each_linear_is_counted_once(method, model):
    model = skeleton(MODELS[model][0], MODELS[model][1], **MODELS[model][2])
    sizes = quantized_bytes(model, CONFIGS[method], dtype=BF16)
    known = nn.Module if method in WITH_CONV1D else nn.Linear
    linears = {
        name
        for name, module in model.named_modules()
        if linear_shape(module) is not None and isinstance(module, known)
    }
    experts = {weight.parameter: weight.module for weight in fused_weights(named_modules(model))}
    packed = {name.removesuffix(".weight") for name in sizes.bytes if name.endswith(".weight")}
    assert packed | (set(sizes.unquantized) - set(experts.values())) == linears
    assert not packed & set(sizes.unquantized)
    for parameter, module in experts.items():
        assert (parameter in sizes.bytes) != (module in sizes.unquantized)
    assert sum(sizes.parts.values()) == sum(sizes.bytes.values())
    assert all(sizes.unquantized.values()) and all(n > 0 for n in sizes.parts.values())
    for parameter in (*sizes.bytes, *sizes.in_memory):
        assert model.get_parameter(parameter) is not None
    assert sizes.method == method


# Method -> bytes of a weight [96, 64], of its bias, and of two fused projections [32, 64] each of
# four experts; None: as many as without the method.
BY_HAND = {
    # 64 rows of 96 / 8 int32; 2 groups of 12 int32 and of 96 float16
    "awq": (64 * 12 * 4 + 2 * 12 * 4 + 2 * 96 * 2, 96 * 2, 8 * (64 * 16 + 2 * 16 + 2 * 32 * 2)),
    # and an int32 for each input
    "gptq": (
        8 * 96 * 4 + 2 * 12 * 4 + 2 * 96 * 2 + 64 * 4,
        96 * 2,
        8 * (64 * 16 + 2 * 16 + 2 * 32 * 2 + 64 * 4),
    ),
    # half a byte, a float32 for 64 weights, 16 float32
    "bitsandbytes_4bit": (96 * 32 + 96 * 4 + 64, None, None),
    "bitsandbytes_8bit": (96 * 64 + 96 * 4, None, None),
    # 96 rows of 64 / 8 int32 and 2 scales in bfloat16; two int64
    "compressed-tensors": (96 * 8 * 4 + 96 * 2 * 2 + 16, None, 8 * (32 * 32 + 32 * 2 * 2 + 16)),
    "eetq": (96 * 64 + 96 * 2, None, None),
    "fbgemm_fp8": (96 * 64 + 96 * 4 + 4, 96 * 4, None),
    # 3 x 2 blocks; of the experts 2 x 2 in one matrix [64, 64]
    "fp8": (96 * 64 + 3 * 2 * 4, None, 4 * (64 * 64 + 2 * 2 * 4)),
    "mxfp8": (96 * 64 + 3 * 2 * 4, None, 4 * (64 * 64 + 2 * 2 * 4)),
    "mxfp4": (None, None, None),
    "quanto": (96 * 64 + 96 * 2 + 2 * 2, None, None),
    "torchao": (96 * 64 + 96 * 4 + 96, None, None),
}


@pytest.mark.parametrize("method", METHODS)
def test_bytes_by_hand(method, biased_llama, tiny_moe):
    weight, bias, experts = BY_HAND[method]
    name = "model.layers.1.mlp.up_proj"
    assert biased_llama.get_parameter(f"{name}.weight").shape == (96, 64)
    sizes = quantized_bytes(biased_llama, CONFIGS[method], dtype=BF16)
    assert sizes.bytes.get(f"{name}.weight") == weight
    assert {**sizes.bytes, **sizes.in_memory}.get(f"{name}.bias") == bias
    fused = "model.layers.0.mlp.experts.gate_up_proj"
    assert quantized_bytes(tiny_moe, CONFIGS[method], dtype=BF16).bytes.get(fused) == experts


# ------------------------------------------------------------------------------ what is left out


@pytest.mark.parametrize(
    ("method", "key"),
    [
        ("awq", "modules_to_not_convert"),
        ("bitsandbytes_4bit", "llm_int8_skip_modules"),
        ("bitsandbytes_8bit", "llm_int8_skip_modules"),
        ("compressed-tensors", "ignore"),
        ("eetq", "modules_to_not_convert"),
        ("fbgemm_fp8", "modules_to_not_convert"),
        ("fp8", "modules_to_not_convert"),
        ("fp8", "ignored_layers"),
        ("quanto", "modules_to_not_convert"),
        ("torchao", "modules_to_not_convert"),
    ],
)
def test_a_module_that_is_listed_is_counted_as_it_is(tiny_llama, method, key):
    spared = "model.layers.0.mlp.up_proj"
    before = quantized_bytes(tiny_llama, CONFIGS[method], dtype=BF16)
    config = {**CONFIGS[method], key: ["lm_head", spared]}
    after = quantized_bytes(tiny_llama, config, dtype=BF16)
    assert set(before.bytes) - set(after.bytes) == {f"{spared}.weight"}
    assert repr(spared) in after.unquantized[spared]
    lost = before.bytes[f"{spared}.weight"]
    assert sum(before.parts.values()) - sum(after.parts.values()) == lost


@pytest.mark.parametrize("method", ["awq", "compressed-tensors", "fp8", "gptq"])
def test_experts_that_are_listed_stay(tiny_moe, method):
    keys = {
        "awq": {"modules_to_not_convert": ["model.layers.*.mlp.experts"]},
        "compressed-tensors": {"ignore": ["re:.*mlp.experts.*"]},
        "fp8": {"modules_to_not_convert": ["experts"]},
        "gptq": {"dynamic": {r"-:.*mlp\.experts.*": {}}},
    }
    sizes = quantized_bytes(tiny_moe, {**CONFIGS[method], **keys[method]}, dtype=BF16)
    assert not [name for name in sizes.bytes if "experts" in name]
    assert "model.layers.0.self_attn.q_proj.weight" in sizes.bytes
    assert "model.layers.1.mlp.experts" in sizes.unquantized


def test_one_listed_projection_spares_the_matrix_that_it_is_fused_into(tiny_moe):
    config = {**CONFIGS["awq"], "modules_to_not_convert": ["experts.0.up_proj"]}
    packed = {
        name for name in quantized_bytes(tiny_moe, config, dtype=BF16).bytes if "expert" in name
    }
    assert packed == {f"model.layers.{i}.mlp.experts.down_proj" for i in (0, 1)}


@pytest.mark.parametrize("method", ["awq", "eetq", "fp8", "quanto", "torchao", "bitsandbytes_8bit"])
def test_a_subclass_of_linear_is_told_apart_where_transformers_does(method):
    """Methods that look at the exact type leave it, those that use isinstance convert it."""

    class Own(nn.Linear):
        pass

    with torch.device("meta"):
        model = nn.Module()
        model.own, model.plain = Own(64, 32), nn.Linear(64, 32)
        model.norm = nn.LayerNorm(32)
    sizes = quantized_bytes(model, CONFIGS[method], dtype=BF16)
    assert "plain.weight" in sizes.bytes
    exact = method in ("fp8", "bitsandbytes_8bit")
    assert ("own.weight" in sizes.bytes) != exact
    assert ("Own is a subclass of nn.Linear" in sizes.unquantized.values()) == exact


# ----------------------------------------------------------------------------- what becomes of it


def test_llama_4s_experts_become_linears_where_transformers_makes_them_so():
    """Of checkpoints that bitsandbytes quantized already, and only of those."""
    pytest.importorskip("transformers.models.llama4")
    small = {"num_hidden_layers": 1, "num_local_experts": 2, "hidden_size": 64}
    small |= {"intermediate_size": 32, "intermediate_size_mlp": 32, "vocab_size": 128}
    model = skeleton("Llama4TextConfig", "Llama4ForCausalLM", **small)
    name = "model.layers.0.feed_forward.experts"
    assert model.get_parameter(f"{name}.gate_up_proj").shape == (2, 64, 64)
    config = CONFIGS["bitsandbytes_8bit"]

    fresh = quantized_bytes(model, config, dtype=BF16)
    assert f"{name}.gate_up_proj" not in fresh.bytes
    assert fresh.unquantized[name] == "fused experts are not nn.Linear"

    model.config.quantization_config = {"quant_method": "bitsandbytes", **config}
    stored = quantized_bytes(model, config, dtype=BF16)
    assert stored.bytes[f"{name}.gate_up_proj"] == 2 * 2 * (32 * 64 + 32 * 4)
    assert stored.bytes[f"{name}.down_proj"] == 2 * (64 * 32 + 64 * 4)
    assert name not in stored.unquantized and not stored.notes

    listed = {**config, "llm_int8_skip_modules": ["lm_head", "experts"]}
    spared = quantized_bytes(model, listed, dtype=BF16)
    assert f"{name}.gate_up_proj" not in spared.bytes and name in spared.unquantized


@pytest.mark.parametrize(
    ("config", "note"),
    [
        ({"load_in_8bit": True, "llm_int8_has_fp16_weight": True}, "16 bits"),
        ({**FP8, "dequantize": True}, "unpacked while they are loaded"),
        ({"quant_method": "mxfp4", "dequantize": True}, "unpacked while they are loaded"),
    ],
)
def test_what_unpacks_converts_nothing(tiny_moe, config, note):
    sizes = quantized_bytes(tiny_moe, config, dtype=BF16)
    assert sizes.bytes == sizes.parts == sizes.in_memory == {}
    assert [said for said in sizes.notes if note in said]


@pytest.mark.parametrize("method", ["bitsandbytes_4bit", "eetq", "quanto", "torchao"])
def test_experts_that_stay_are_said_with_their_bytes(tiny_moe, method):
    # two layers of four experts of three 64 x 32 projections, two bytes each
    (note,) = quantized_bytes(tiny_moe, CONFIGS[method], dtype=BF16).notes
    assert "96.00 KiB of them stay in bfloat16" in note
    plain = skeleton("LlamaConfig", "LlamaForCausalLM", **TINY)
    assert not quantized_bytes(plain, CONFIGS[method], dtype=BF16).notes


def test_biases_of_packed_experts_lie_in_float32():
    model = skeleton("GptOssConfig", "GptOssForCausalLM", num_hidden_layers=1)
    name = "model.layers.0.mlp.experts"
    biases = {n: p.numel() for n, p in model.named_parameters() if n.endswith("proj_bias")}
    assert set(biases) == {f"{name}.gate_up_proj_bias", f"{name}.down_proj_bias"}
    wide = quantized_bytes(model, CONFIGS["mxfp4"], dtype=BF16).in_memory
    assert wide == {n: 4 * elements for n, elements in biases.items()}
    assert quantized_bytes(model, CONFIGS["mxfp4"], dtype=torch.float32).in_memory == {}
    # fp8 has no experts with a bias, AWQ packs the weights as ever.
    fp8 = quantized_bytes(model, FP8, dtype=BF16)
    assert fp8.unquantized[name] == "transformers has no fp8 experts with a bias"


# ------------------------------------------------------------------------------- how it is stated


def test_whether_all_that_is_stored_packed_lies_so_in_memory():
    stored = {"a": 10, "b": 20}
    for exceptions, stays in (
        (stored, True),
        ({**stored, "c": 5}, True),
        ({"a": 10, "b": 40}, False),
        ({"a": 10}, False),
        ({}, False),
    ):
        sizes = ParameterSizes(exceptions=exceptions, packed=stored, dtype=BF16)
        assert sizes.stays_packed is stays
    assert ParameterSizes(exceptions={"c": 5}, dtype=BF16).stays_packed


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("method", [None, "awq", "bitsandbytes_4bit", "compressed-tensors"])
def test_packed_is_said_only_where_it_changes_the_bytes(method, packed):
    built = skeleton_of_type("llama", **TINY)
    sites = partition(built.model)
    config = CONFIGS[method] if method else None
    weights = measure_weights(built, sites, quantization_config=config, packed=packed)
    unpacks = method == "compressed-tensors" and not packed
    changes = method == "compressed-tensors" and packed
    assert weights.packed is changes
    assert (PACKED_NOTE in weights.notes) is changes
    assert bool([note for note in weights.notes if "unpack these weights" in note]) is unpacks
    sizes = quantized_bytes(built.model, config, dtype=built.dtype) if method else None
    counted = (sizes.bytes if packed else sizes.resident) if method else {}
    total = sum(counted.get(n, p.nbytes) for n, p in built.model.named_parameters())
    assert sum(block.weight_bytes for block in weights.blocks.values()) == total
