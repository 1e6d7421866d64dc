"""GPTQ and AWQ: published layouts, and which linears are packed.

Both need packages with GPU kernels to run, so the numbers here are worked out by hand from the
buffers that their linears register (the sources are in the modules).
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devplan.core.errors import InputError
from devplan.profile.quantization import awq, gptq, quantized_bytes
from devplan.profile.quantization.linears import Linear
from tests.profile.quant_skeletons import BF16, TINY, TINY_MOE, skeleton

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}


@pytest.mark.parametrize(
    ("bits", "group_size", "qweight", "qzeros", "scales"),
    [
        # Llama-3-8B's gate_proj: 4096 inputs, 14336 outputs
        (4, 128, 4096 // 8 * 14336 * 4, 32 * 14336 // 8 * 4, 32 * 14336 * 2),
        (8, 128, 4096 // 4 * 14336 * 4, 32 * 14336 // 4 * 4, 32 * 14336 * 2),
        (2, 64, 4096 // 16 * 14336 * 4, 64 * 14336 // 16 * 4, 64 * 14336 * 2),
        # 3 bits: 32 weights in three int32
        (3, 128, 4096 // 32 * 3 * 14336 * 4, 32 * (14336 // 32 * 3) * 4, 32 * 14336 * 2),
        (4, -1, 4096 // 8 * 14336 * 4, 14336 // 8 * 4, 14336 * 2),
    ],
)
def test_gptq_pieces(bits, group_size, qweight, qzeros, scales):
    found = gptq.pieces(Linear(14336, 4096), gptq.GptqLayout(bits, group_size))
    assert tuple(found.values()) == (qweight, qzeros, scales, 4096 * 4)


@pytest.mark.parametrize(("group_size", "groups"), [(128, 32), (64, 64), (-1, 1)])
def test_awq_pieces(group_size, groups):
    found = awq.pieces(Linear(14336, 4096), 4, group_size)
    packed = 14336 // 8
    assert tuple(found.values()) == (4096 * packed * 4, groups * packed * 4, groups * 14336 * 2)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([2, 4, 8]))
def test_packed_weights_take_their_bits(rows, columns, bits):
    linear = Linear(32 * rows, 32 * columns)
    found = gptq.pieces(linear, gptq.GptqLayout(bits, -1))
    assert found["qweight (int32)"] * 8 == linear.numel * bits


def test_gptq_packs_the_blocks_and_nothing_else(tiny_llama):
    sizes = quantized_bytes(tiny_llama, GPTQ, dtype=BF16)
    assert len(sizes.bytes) == 2 * 7
    assert sizes.unquantized == {"lm_head": "outside the blocks 'model.layers'"}


def test_gptq_packs_the_head_when_told_to(tiny_llama):
    sizes = quantized_bytes(tiny_llama, {**GPTQ, "lm_head": True}, dtype=BF16)
    assert "lm_head.weight" in sizes.bytes


def test_gptq_packs_what_is_named(tiny_llama):
    named = [["self_attn.k_proj", "self_attn.v_proj"], ["mlp.down_proj"]]
    config = {**GPTQ, "modules_in_block_to_quantize": named}
    sizes = quantized_bytes(tiny_llama, config, dtype=BF16)
    assert {name.split(".", 3)[3] for name in sizes.bytes} == {
        "self_attn.k_proj.weight",
        "self_attn.v_proj.weight",
        "mlp.down_proj.weight",
    }
    assert "modules_in_block" in sizes.unquantized["model.layers.0.mlp.up_proj"]


def test_gptq_dynamic_rules_exclude_and_override(tiny_llama):
    dynamic = {r"-:.*o_proj": {}, r"+:model\.layers\.1\..*": {"bits": 8, "group_size": 32}}
    sizes = quantized_bytes(tiny_llama, {**GPTQ, "dynamic": dynamic}, dtype=BF16)
    assert "model.layers.1.self_attn.o_proj" in sizes.unquantized
    linear = Linear(96, 64)
    for layer, layout in ((0, gptq.GptqLayout(4, 128)), (1, gptq.GptqLayout(8, 32))):
        expected = sum(gptq.pieces(linear, layout).values())
        assert sizes.bytes[f"model.layers.{layer}.mlp.up_proj.weight"] == expected


def test_biases_of_packed_linears_are_float16():
    model = skeleton("LlamaConfig", "LlamaForCausalLM", attention_bias=True, **TINY)
    for config in (GPTQ, AWQ):
        sizes = quantized_bytes(model.float(), config, dtype=BF16)
        assert sizes.bytes["model.layers.0.self_attn.q_proj.bias"] == 64 * 2


def test_awq_always_spares_the_head(tiny_llama):
    config = {**AWQ, "modules_to_not_convert": ["mlp"]}
    sizes = quantized_bytes(tiny_llama, config, dtype=BF16)
    assert sizes.unquantized["lm_head"] == "output embedding"
    assert "model.layers.0.mlp.up_proj" not in sizes.unquantized  # "mlp" is no ending of it
    config = {**AWQ, "modules_to_not_convert": ["up_proj"]}
    sizes = quantized_bytes(tiny_llama, config, dtype=BF16)
    assert sizes.unquantized["model.layers.0.mlp.up_proj"].endswith("lists 'up_proj'")


@pytest.mark.parametrize("config", [GPTQ, AWQ], ids=["gptq", "awq"])
def test_experts_are_counted_projection_by_projection(config):
    hyperparameters = {**TINY_MOE, "hidden_size": 128, "moe_intermediate_size": 64}
    model = skeleton("Qwen3MoeConfig", "Qwen3MoeForCausalLM", **hyperparameters)
    sizes = quantized_bytes(model, config, dtype=BF16)
    each = Linear(64, 128)
    pieces = (
        gptq.pieces(each, gptq.GptqLayout(4, 128)) if config is GPTQ else awq.pieces(each, 4, 128)
    )
    expected = 4 * 2 * sum(pieces.values())
    assert sizes.bytes["model.layers.0.mlp.experts.gate_up_proj"] == expected
    assert any("fused experts" in note for note in sizes.notes)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**GPTQ, "bits": 5}, ["5", "(2, 3, 4, 8)"]),
        ({**GPTQ, "group_size": 0}, ["group_size", "0"]),
        ({**AWQ, "bits": 3}, ["3", "AWQ"]),
    ],
)
def test_impossible_configs_are_refused(tiny_llama, config, words):
    with pytest.raises(InputError) as refused:
        quantized_bytes(tiny_llama, config, dtype=BF16)
    assert all(word in str(refused.value) for word in words)


def test_a_model_without_known_blocks_is_told_what_to_name():
    model = skeleton(
        "T5Config", "T5ForConditionalGeneration", d_model=64, d_kv=16, num_layers=1, num_heads=4
    )
    with pytest.raises(InputError, match="block_name_to_quantize"):
        quantized_bytes(model, GPTQ, dtype=BF16)
    sizes = quantized_bytes(model, {**GPTQ, "block_name_to_quantize": "decoder"}, dtype=BF16)
    assert sizes.bytes and all(name.startswith("decoder") for name in sizes.bytes)
