"""bitsandbytes: pieces as measured, and the modules that transformers replaces.

The numbers in `MEASURED` were read off ``bnb.nn.Params4bit`` and ``Int8Params`` of bitsandbytes
0.50.2 (CPU backend): ``nbytes`` of every tensor of the parameter and its quantization state.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from devplan.core.errors import InputError
from devplan.profile.quantization import quantized_bytes
from devplan.profile.quantization.bitsandbytes import pieces_4bit, pieces_4bit_nested, pieces_8bit
from devplan.profile.quantization.linears import Linear
from tests.profile.quant_skeletons import BF16, TINY, TINY_MOE, skeleton

IN_8_BITS = {"quant_method": "bitsandbytes", "load_in_8bit": True}
IN_4_BITS = {"quant_method": "bitsandbytes", "load_in_4bit": True}

# (out, in) -> packed, absmax, code table
MEASURED = {
    (256, 128): (16384, 2048, 64),
    (33, 100): (1650, 208, 64),
    (14336, 4096): (29360128, 3670016, 64),
    (1, 64): (32, 4, 64),
}
# (out, in) -> packed, absmax, nested absmax, offset, code table, nested code table
MEASURED_NESTED = {
    (256, 128): (16384, 512, 8, 4, 64, 1024),
    (33, 100): (1650, 52, 4, 4, 64, 1024),
    (14336, 4096): (29360128, 917504, 14336, 4, 64, 1024),
    (1, 64): (32, 1, 4, 4, 64, 1024),
}


@pytest.mark.parametrize("shape", MEASURED)
def test_pieces_in_4_bits(shape):
    assert tuple(pieces_4bit(Linear(*shape)).values()) == MEASURED[shape]


@pytest.mark.parametrize("shape", MEASURED_NESTED)
def test_pieces_with_double_quantization(shape):
    assert tuple(pieces_4bit_nested(Linear(*shape)).values()) == MEASURED_NESTED[shape]


def test_pieces_in_8_bits():
    assert tuple(pieces_8bit(Linear(256, 128)).values()) == (32768, 1024)


@given(st.integers(1, 300), st.integers(1, 300))
def test_double_quantization_never_saves_packed_weights(out_features, in_features):
    linear = Linear(out_features, in_features)
    single, nested = pieces_4bit(linear), pieces_4bit_nested(linear)
    assert single["weight (packed)"] == nested["weight (packed)"]
    assert single["weight (packed)"] * 2 in (linear.numel, linear.numel + 1)


def test_pieces_against_the_installed_package():
    bnb = pytest.importorskip("bitsandbytes")
    for out_features, in_features in MEASURED:
        weight = torch.randn(out_features, in_features, dtype=BF16)
        linear = Linear(out_features, in_features)
        for nested, pieces in ((False, pieces_4bit), (True, pieces_4bit_nested)):
            packed = bnb.nn.Params4bit(weight, requires_grad=False, compress_statistics=nested)
            packed = packed.to("cpu")
            state = packed.quant_state
            tensors = [packed.data, state.absmax, state.code]
            if nested:
                tensors += [state.state2.absmax, state.offset, state.state2.code]
            assert sum(t.nbytes for t in tensors) == sum(pieces(linear).values())


def test_linears_are_converted_and_the_head_is_not(tiny_llama):
    sizes = quantized_bytes(tiny_llama, IN_4_BITS, dtype=BF16)
    linears = {n for n, m in tiny_llama.named_modules() if type(m) is nn.Linear}
    assert set(sizes.bytes) == {f"{name}.weight" for name in linears - {"lm_head"}}
    assert sizes.unquantized == {"lm_head": "output embedding"}
    assert sizes.method == "bitsandbytes_4bit"
    assert sum(sizes.parts.values()) == sum(sizes.bytes.values())


def test_a_tied_head_is_left_to_its_embedding(tied_llama):
    sizes = quantized_bytes(tied_llama, IN_8_BITS, dtype=BF16)
    assert set(sizes.unquantized) == {"lm_head"}
    assert "lm_head.weight" not in sizes.bytes


def test_listed_modules_stay_and_the_default_goes(tiny_llama):
    """Once the config lists modules, transformers no longer spares the head."""
    config = {**IN_8_BITS, "llm_int8_skip_modules": ["o_proj", r"model.layers.0"]}
    sizes = quantized_bytes(tiny_llama, config, dtype=BF16)
    assert "lm_head.weight" in sizes.bytes
    assert sizes.unquantized["model.layers.1.self_attn.o_proj"].endswith("lists 'o_proj'")
    assert "model.layers.0.mlp.up_proj" in sizes.unquantized
    assert "model.layers.1.mlp.up_proj.weight" in sizes.bytes


def test_fused_experts_stay_and_it_is_said(tiny_moe):
    sizes = quantized_bytes(tiny_moe, IN_4_BITS, dtype=BF16)
    assert not [name for name in sizes.bytes if "experts" in name]
    assert sizes.unquantized["model.layers.0.mlp.experts"] == "fused experts are not nn.Linear"
    # two layers of four experts of three 64 x 32 projections, two bytes each: 96 KiB
    assert any("96.00 KiB" in note and "bfloat16" in note for note in sizes.notes)


def test_conv1d_is_converted():
    model = skeleton("GPT2Config", "GPT2LMHeadModel", n_embd=64, n_layer=1, n_head=4)
    sizes = quantized_bytes(model, IN_8_BITS, dtype=BF16)
    # [in 64, out 192]: one byte a weight and a float32 per output
    assert sizes.bytes["transformer.h.0.attn.c_attn.weight"] == 64 * 192 + 192 * 4


def test_modules_kept_in_float32_stay():
    hyperparameters = {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 1, "num_heads": 4}
    model = skeleton("T5Config", "T5ForConditionalGeneration", **hyperparameters)
    sizes = quantized_bytes(model, IN_8_BITS, dtype=BF16)
    name = "encoder.block.0.layer.1.DenseReluDense.wo"
    assert sizes.unquantized[name] == "the model class keeps 'wo' in float32"


def test_neither_8_nor_4_bits_is_refused(tiny_llama):
    with pytest.raises(InputError, match="neither load_in_8bit nor load_in_4bit"):
        quantized_bytes(tiny_llama, {"quant_method": "bitsandbytes"}, dtype=BF16)


@pytest.mark.parametrize("config", [IN_8_BITS, IN_4_BITS], ids=["8 bits", "4 bits"])
@pytest.mark.parametrize(
    ("config_class", "model_class", "hyperparameters"),
    [
        ("LlamaConfig", "LlamaForCausalLM", TINY),
        ("Qwen3MoeConfig", "Qwen3MoeForCausalLM", TINY_MOE),
        ("GPT2Config", "GPT2LMHeadModel", {"n_embd": 64, "n_layer": 1, "n_head": 4}),
    ],
)
def test_same_modules_as_the_installed_packages_replace(
    config_class, model_class, hyperparameters, config
):
    bnb = pytest.importorskip("bitsandbytes")
    from transformers.quantizers.auto import AutoHfQuantizer

    model = skeleton(config_class, model_class, **hyperparameters)
    ours = quantized_bytes(model, config, dtype=BF16)
    quantizer = AutoHfQuantizer.from_config(dict(config), pre_quantized=False)
    with torch.device("meta"):
        quantizer.preprocess_model(model, dtype=BF16, device_map=None)
    kinds = (bnb.nn.Linear4bit, bnb.nn.Linear8bitLt)
    replaced = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, kinds)}
    assert set(ours.bytes) == replaced
