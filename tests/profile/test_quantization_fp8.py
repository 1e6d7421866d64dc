"""fp8: against transformers' own modules on the meta device, and against published totals."""

from __future__ import annotations

import pytest
import torch

from devplan.core.errors import InputError
from devplan.profile.quantization import quantized_bytes
from tests.profile.quant_skeletons import BF16, TINY, TINY_MOE, buffer_bytes, skeleton, total_bytes

FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}

# Classes that differ in what matters: fused experts, experts without "gate", tied heads, nested
# text models, Conv1D, subclasses of nn.Linear, modules kept in float32, transposed experts.
FAMILIES = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", TINY),
    "tied": ("LlamaConfig", "LlamaForCausalLM", {**TINY, "tie_word_embeddings": True}),
    "biased": ("LlamaConfig", "LlamaForCausalLM", {**TINY, "attention_bias": True}),
    "qwen3_moe": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM", TINY_MOE),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {"n_embd": 64, "n_layer": 1, "n_head": 4}),
    "t5": (
        "T5Config",
        "T5ForConditionalGeneration",
        {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 1, "num_heads": 4},
    ),
    "qwen2_5_vl": (
        "Qwen2_5_VLConfig",
        "Qwen2_5_VLForConditionalGeneration",
        {"text_config": {"num_hidden_layers": 2}, "vision_config": {"depth": 2}},
    ),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", {"num_hidden_layers": 2}),
    "deepseek_v3": ("DeepseekV3Config", "DeepseekV3ForCausalLM", {"num_hidden_layers": 4}),
    "llama4": ("Llama4TextConfig", "Llama4ForCausalLM", {"num_hidden_layers": 2}),
}
CONFIGS = {
    "default": FP8,
    "scalar": {"quant_method": "fp8", "weight_block_size": None},
    "static": {**FP8, "weight_block_size": [96, 160], "activation_scheme": "static"},
    "listed": {**FP8, "modules_to_not_convert": ["gate", r"model.layers.*.self_attn", "lm_head"]},
    "empty list": {**FP8, "modules_to_not_convert": []},
    "bytes for scales": {**FP8, "scale_fmt": "ue8m0"},
    "embeddings": {**FP8, "modules_to_convert": ["embed_tokens", "wte", "shared"]},
    "a listed embedding": {
        **FP8,
        "modules_to_convert": ["embed_tokens", "wte", "shared"],
        "modules_to_not_convert": [r"model.embed_tokens", "shared"],
    },
}


def as_transformers_makes_it(model, config) -> dict[str, int]:
    """Parameter -> bytes of its float8 weight and scales, as transformers converts the model."""
    finegrained = pytest.importorskip("transformers.integrations.finegrained_fp8")
    if not hasattr(finegrained, "FP8Experts"):
        pytest.skip("this transformers has no fp8 experts")
    from transformers.quantizers.auto import AutoHfQuantizer

    quantizer = AutoHfQuantizer.from_config(dict(config), pre_quantized=True)
    before = torch.get_default_dtype()
    torch.set_default_dtype(BF16)
    try:
        with torch.device("meta"):
            quantizer.preprocess_model(model, dtype=BF16, device_map=None)
    finally:
        torch.set_default_dtype(before)
    parameters = dict(model.named_parameters())
    return {
        name: sum(
            parameters[piece].nbytes
            for piece in (
                name,
                f"{name}_scale_inv",
                f"{name}_scale",
                f"{name}_activation_scale",
                f"{name.removesuffix('.weight')}.activation_scale",
            )
            if piece in parameters
        )
        for name, parameter in parameters.items()
        if parameter.dtype == torch.float8_e4m3fn
    }


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_same_parameters_and_bytes_as_transformers(family, config):
    config_class, model_class, hyperparameters = FAMILIES[family]
    model = skeleton(config_class, model_class, **hyperparameters)
    ours = quantized_bytes(model, config, dtype=BF16)
    assert dict(ours.bytes) == as_transformers_makes_it(model, config)
    assert sum(ours.parts.values()) == sum(ours.bytes.values())
    assert ours.resident == ours.bytes


MINIMAX_M2 = {**FP8, "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"]}


def test_minimax_m2_takes_the_published_bytes():
    """230,024,081,664 bytes in memory, parameters and buffers, of 228,689,748,992 weights."""
    pytest.importorskip("transformers.models.minimax_m2")
    model = skeleton("MiniMaxM2Config", "MiniMaxM2ForCausalLM", rotary_dim=64)
    sizes = quantized_bytes(model, MINIMAX_M2, dtype=BF16)
    assert total_bytes(model, sizes.resident) + buffer_bytes(model) == 230_024_081_664
    assert sizes.unquantized == {"lm_head": "the quantization config lists 'lm_head'"}
    # The hub's count of M2.5, 228,703,644,928, counts weights, scales and the router's biases.
    scales = sizes.parts["weight_scale_inv"] // 4
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert weights + scales + 62 * 256 == 228_703_644_928


def test_deepseek_v3_is_the_published_count_less_its_prediction_layer():
    """The hub counts BF16 3,918,786,560, F8 680,571,043,840 and F32 41,555,600 elements.

    The checkpoint holds a 62nd layer for multi-token prediction that the class does not load.
    """
    pytest.importorskip("transformers.models.deepseek_v3")
    model = skeleton("DeepseekV3Config", "DeepseekV3ForCausalLM")
    sizes = quantized_bytes(model, FP8, dtype=BF16)
    assert sizes.unquantized == {"lm_head": "output embedding"}

    # A layer of the same shape as the last: what its float8 part holds.
    last = {n: b for n, b in sizes.bytes.items() if n.startswith("model.layers.60.")}
    f8 = sum(model.get_parameter(name).numel() for name in last)
    f32 = (sum(last.values()) - f8) // 4
    assert sizes.parts["weight (float8)"] + f8 == 680_571_043_840
    assert sizes.parts["weight_scale_inv"] // 4 + f32 + 59 * 256 == 41_555_600

    # In bfloat16: its router and norms, the projection of two states to one, its embeddings.
    hidden, vocabulary = 7168, 129_280
    rest = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if name.startswith("model.layers.60.") and name not in last
    )
    bf16 = sum(p.numel() for n, p in model.named_parameters() if n not in sizes.bytes)
    extra = rest + 3 * hidden + 2 * hidden * hidden + 2 * vocabulary * hidden
    assert bf16 + extra == 3_918_786_560


@pytest.mark.parametrize("family", ["llama", "tied", "gpt2"])
def test_dequantize_leaves_the_embeddings_that_are_named(family):
    """A table that is worth quantizing is too large to be unpacked, says transformers."""
    config_class, model_class, hyperparameters = FAMILIES[family]
    model = skeleton(config_class, model_class, **hyperparameters)
    config = {**CONFIGS["embeddings"], "dequantize": True}
    ours = quantized_bytes(model, config, dtype=BF16)
    assert dict(ours.bytes) == as_transformers_makes_it(model, config)
    assert len(ours.bytes) == (family == "llama") and "dequantize" in ours.notes[0]


def test_dequantize_converts_nothing(tiny_llama):
    sizes = quantized_bytes(tiny_llama, {**FP8, "dequantize": True}, dtype=BF16)
    assert sizes.bytes == {} and "dequantize" in sizes.notes[0]


def test_packed_fp4_experts(tiny_moe):
    sizes = quantized_bytes(tiny_moe, {**FP8, "expert_dtype": "fp4"}, dtype=BF16)
    # [4 experts, 64 rows, 64 columns]: half a byte a weight, a float32 scale per 32 of a row
    expected = 4 * 64 * 64 // 2 + 4 * 64 * 2 * 4
    assert sizes.bytes["model.layers.0.mlp.experts.gate_up_proj"] == expected


def test_old_cards_are_mentioned(tiny_llama):
    assert any("8.9" in note for note in quantized_bytes(tiny_llama, FP8, dtype=BF16).notes)


@pytest.mark.parametrize("block", [[128], [0, 128], [128, -1]])
def test_an_impossible_block_size_is_refused(tiny_llama, block):
    with pytest.raises(InputError, match="weight_block_size"):
        quantized_bytes(tiny_llama, {**FP8, "weight_block_size": block}, dtype=BF16)
