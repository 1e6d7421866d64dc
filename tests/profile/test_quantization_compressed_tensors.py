"""compressed-tensors: pieces as measured, Kimi-K2-Thinking's total, and what stays packed.

The numbers in `MEASURED` were read off the parameters of a Llama after
``CompressedTensorsHfQuantizer.preprocess_model`` with compressed-tensors 0.20.0, weights
``[64, 96]``; zero points are as a checkpoint holds them (``PackQuantizedCompressor.compress``).
"""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import transformers

from devplan.core.errors import InputError
from devplan.core.units import format_bytes
from devplan.profile.quantization import quantized_bytes
from tests.profile.quant_skeletons import BF16, DTYPE, TINY, buffer_bytes, skeleton, total_bytes

INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
UNPACKS = int(transformers.__version__.split(".")[0]) >= 5


def config(
    weights, *, format="pack-quantized", ignore=("lm_head",), inputs=None, targets=("Linear",)
):
    group = {"targets": list(targets), "weights": weights, "input_activations": inputs}
    return {
        "quant_method": "compressed-tensors",
        "format": format,
        "ignore": list(ignore),
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
    }


CHANNEL = {**INT4, "strategy": "channel", "group_size": None}
FP8 = {"num_bits": 8, "type": "float", "symmetric": True}
STATIC = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}
BLOCKS = {**FP8, "strategy": "block", "block_structure": [32, 32]}
NVFP4 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
NVFP4_INPUTS = {**NVFP4, "dynamic": "local"}
MEASURED = {
    # packed int32 [64, 12], scale bfloat16 [64, 3], shape int64 [2]
    "int4 in groups": (config(INT4), 64 * 12 * 4 + 64 * 3 * 2 + 16),
    # and zero points int32 [64 * 4 / 32, 3]
    "int4, zero points": (
        config({**INT4, "symmetric": False}),
        64 * 12 * 4 + 64 * 3 * 2 + 16 + 8 * 3 * 4,
    ),
    "int4 by rows": (config(CHANNEL), 64 * 12 * 4 + 64 * 2 + 16),
    # 96 weights of 3 bits are 9 int32
    "int3": (config({**INT4, "num_bits": 3}), 64 * 9 * 4 + 64 * 3 * 2 + 16),
    "int8 packed": (config({**CHANNEL, "num_bits": 8}), 64 * 24 * 4 + 64 * 2 + 16),
    "int8": (config({**CHANNEL, "num_bits": 8}, format="int-quantized"), 64 * 96 + 64 * 2),
    "fp8, static": (
        config({**FP8, "strategy": "tensor"}, format="float-quantized", inputs=STATIC),
        64 * 96 + 2 + 2,
    ),
    "fp8 by rows": (config({**FP8, "strategy": "channel"}, format="float-quantized"), 6144 + 128),
    "fp8 in blocks": (config(BLOCKS, format="float-quantized"), 64 * 96 + 2 * 3 * 2),
    "nvfp4": (
        config(NVFP4, format="nvfp4-pack-quantized", inputs=NVFP4_INPUTS),
        64 * 48 + 64 * 6 + 4 + 4,
    ),
    "mxfp4": (
        config({**NVFP4, "strategy": "group", "group_size": 32}, format="mxfp4-pack-quantized"),
        64 * 48 + 64 * 3,
    ),
}


@pytest.mark.parametrize("case", MEASURED)
def test_pieces_as_measured(tiny_llama, case):
    quantization_config, expected = MEASURED[case]
    sizes = quantized_bytes(tiny_llama, quantization_config, dtype=BF16)
    assert tiny_llama.get_parameter("model.layers.0.mlp.down_proj.weight").shape == (64, 96)
    assert sizes.bytes["model.layers.0.mlp.down_proj.weight"] == expected
    assert sum(sizes.parts.values()) == sum(sizes.bytes.values())


@pytest.mark.parametrize("case", [name for name in MEASURED if "zero points" not in name])
def test_pieces_against_the_installed_package(case):
    pytest.importorskip("compressed_tensors")
    from transformers.quantizers.auto import AutoHfQuantizer

    quantization_config, _ = MEASURED[case]
    model = skeleton("LlamaConfig", "LlamaForCausalLM", **TINY)
    ours = quantized_bytes(model, quantization_config, dtype=BF16)
    quantizer = AutoHfQuantizer.from_config(deepcopy(quantization_config), pre_quantized=True)
    quantizer.validate_environment()
    torch.set_default_dtype(BF16)
    try:
        with torch.device("meta"):
            quantizer.preprocess_model(model, dtype=BF16, device_map=None)
    finally:
        torch.set_default_dtype(torch.float32)
    module = model.get_submodule("model.layers.0.mlp.down_proj")
    actual = sum(p.nbytes for p in (*module.parameters(), *module.buffers()))
    # W8A16 in "int-quantized" is stored as int8 and laid out as packed int32 with its shape.
    slack = 16 if case == "int8" else 0
    assert actual - slack == ours.bytes["model.layers.0.mlp.down_proj.weight"]


# Hyperparameters of moonshotai/Kimi-K2-Thinking: the architecture of DeepSeek-V3 with more experts
# and fewer heads, https://huggingface.co/moonshotai/Kimi-K2-Thinking/blob/main/config.json
KIMI = {
    "vocab_size": 163_840,
    "first_k_dense_replace": 1,
    "n_routed_experts": 384,
    "n_group": 1,
    "topk_group": 1,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
}
KIMI_INT4 = config(
    INT4,
    ignore=(
        "lm_head",
        "re:.*self_attn.*",
        "re:.*shared_experts.*",
        r"re:.*mlp\.(gate|up|gate_up|down)_proj.*",
    ),
)


@pytest.fixture(scope="module")
def kimi():
    pytest.importorskip("transformers.models.deepseek_v3")
    return skeleton("DeepseekV3Config", "DeepseekV3ForCausalLM", **KIMI)


def test_kimi_k2_thinking_is_stored_in_the_computed_bytes(kimi):
    """594,205,305,856 bytes by arithmetic, to which the shapes of 69,120 projections come."""
    sizes = quantized_bytes(kimi, KIMI_INT4, dtype=BF16)
    biases = 60 * 384 * 2  # of the routers, buffers of the class, in bfloat16
    stored = total_bytes(kimi, sizes.bytes) + biases
    assert sizes.parts["weight_shape"] == 69_120 * 16
    assert stored - sizes.parts["weight_shape"] == 594_205_305_856
    assert all("experts" in name for name in sizes.bytes)
    assert sizes.unquantized["lm_head"] == "the quantization config ignores 'lm_head'"
    assert buffer_bytes(kimi) >= biases


@pytest.mark.skipif(not UNPACKS, reason="before transformers 5 packed weights stay packed")
def test_transformers_5_unpacks_the_experts_and_it_is_said(kimi):
    sizes = quantized_bytes(kimi, KIMI_INT4, dtype=BF16)
    unquantized = sum(parameter.nbytes for parameter in kimi.parameters())
    assert total_bytes(kimi, sizes.resident) == unquantized
    assert any("unpack" in note and "1.85 TiB" in note for note in sizes.notes)


@pytest.mark.skipif(not UNPACKS, reason="before transformers 5 packed weights stay packed")
def test_linears_keep_their_scales_once_they_are_unpacked(tiny_llama):
    """Seen on a Qwen3-MoE after its first forward pass: weight, weight_scale, weight_shape."""
    sizes = quantized_bytes(tiny_llama, config(INT4), dtype=BF16)
    name = "model.layers.0.mlp.down_proj.weight"
    assert sizes.resident[name] == 64 * 96 * 2 + 64 * 3 * 2 + 16


def test_what_was_seen_of_unpacking_still_happens(tmp_path):
    """Load a packed model and run it: sizes before and after, with the real packages."""
    pytest.importorskip("compressed_tensors")
    from safetensors.torch import save_file

    settings = transformers.LlamaConfig(**TINY, dtype="bfloat16")
    model = transformers.LlamaForCausalLM(settings).to(BF16)
    settings.quantization_config = config(INT4)
    settings.architectures = ["LlamaForCausalLM"]
    settings.save_pretrained(tmp_path)
    tensors = {}
    for name, value in model.state_dict().items():
        if name.endswith("_proj.weight"):
            rows, columns = value.shape
            tensors[f"{name}_packed"] = torch.zeros(rows, columns // 8, dtype=torch.int32)
            tensors[f"{name}_scale"] = torch.ones(rows, columns // 32, dtype=BF16)
            tensors[f"{name}_shape"] = torch.tensor([rows, columns])
        else:
            tensors[name] = value.clone()
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})

    loaded = transformers.LlamaForCausalLM.from_pretrained(tmp_path, **{DTYPE: BF16})
    sizes = quantized_bytes(model, config(INT4), dtype=BF16)
    assert sum(p.nbytes for p in loaded.parameters()) == total_bytes(model, sizes.bytes)
    loaded(torch.arange(3)[None])
    assert sum(p.nbytes for p in loaded.parameters()) == total_bytes(model, sizes.resident)


def test_dequantize_leaves_nothing_packed(tiny_llama):
    sizes = quantized_bytes(tiny_llama, {**config(INT4), "dequantize": True}, dtype=BF16)
    plain = sum(parameter.nbytes for parameter in tiny_llama.parameters())
    assert total_bytes(tiny_llama, sizes.resident) == plain


def test_targets_may_be_names_patterns_and_classes(tiny_llama):
    one = config(INT4, targets=("model.layers.0.mlp.up_proj", r"re:.*layers\.1\..*q_proj"))
    sizes = quantized_bytes(tiny_llama, one, dtype=BF16)
    assert set(sizes.bytes) == {
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.1.self_attn.q_proj.weight",
    }
    assert sizes.unquantized["lm_head"] == "the quantization config ignores 'lm_head'"
    embedding = config(INT4, targets=("Embedding",))
    assert set(quantized_bytes(tiny_llama, embedding, dtype=BF16).bytes) == {
        "model.embed_tokens.weight"
    }


NAME = "model.layers.0.mlp.up_proj"
NAMED, PATTERN, EARLIER, CLASS = NAME, r"re:.*\.up_proj", r"re:.*[.]up_proj", "Linear"


@pytest.mark.parametrize(
    ("targets", "winner"),
    [
        ((NAMED, PATTERN), NAMED),
        ((NAMED, CLASS), NAMED),
        ((PATTERN, CLASS), PATTERN),
        ((EARLIER, PATTERN), EARLIER),  # "[" is before "\\"
        ((CLASS, "Module"), CLASS),
        ((NAMED, PATTERN, EARLIER, CLASS), NAMED),
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_the_most_specific_target_wins_in_any_order(tiny_llama, targets, winner, backwards):
    """``match_targets`` of compressed-tensors: names, then patterns, then classes, each sorted."""
    bits = {target: 4 if target == winner else 8 for target in targets}
    groups = {
        f"group_{number}": {"targets": [target], "weights": {**INT4, "num_bits": bits[target]}}
        for number, target in enumerate(reversed(targets) if backwards else targets)
    }
    several = {**config(INT4), "config_groups": groups}
    alone = quantized_bytes(tiny_llama, config(INT4), dtype=BF16).bytes[f"{NAME}.weight"]
    assert quantized_bytes(tiny_llama, several, dtype=BF16).bytes[f"{NAME}.weight"] == alone


def test_every_target_has_the_scheme_of_its_own_group(tiny_llama):
    groups = {
        "a": {"targets": [r"re:.*mlp.*"], "weights": {**INT4, "num_bits": 8}},
        "b": {"targets": ["Linear"], "weights": INT4},
        "c": {"targets": [r"re:.*o_proj"], "weights": None},
    }
    sizes = quantized_bytes(tiny_llama, {**config(INT4), "config_groups": groups}, dtype=BF16)
    layer = "model.layers.1"
    assert sizes.bytes[f"{layer}.mlp.up_proj.weight"] == 96 * 16 * 4 + 96 * 2 * 2 + 16
    assert sizes.bytes[f"{layer}.self_attn.q_proj.weight"] == 64 * 8 * 4 + 64 * 2 * 2 + 16
    # A group without weights quantizes activations alone.
    assert f"{layer}.self_attn.o_proj.weight" not in sizes.bytes


# Settings of a config group -> bytes of down_proj, [64, 96] in bfloat16, by hand.
SETTINGS = {
    "an order of inputs": ({**INT4, "actorder": "group"}, {}, 3072 + 384 + 16 + 96 * 4),
    "a static order": ({**INT4, "actorder": "static"}, {}, 3072 + 384 + 16),
    "a zero point a row": (
        {**CHANNEL, "symmetric": False},
        {},
        # 64 rows of 4 bits are 8 int32
        3072 + 128 + 16 + 8 * 4,
    ),
    "one zero point": (
        {**CHANNEL, "strategy": "tensor", "symmetric": False},
        {},
        3072 + 2 + 16 + 1,
    ),
    "int8 with zero points": (
        {**INT4, "num_bits": 8, "symmetric": False},
        {"format": "int-quantized"},
        6144 + 64 * 3 * 2 + 64 * 3,
    ),
    "no strategy, no group": (
        {"num_bits": 8, "type": "int"},
        {"format": "int-quantized"},
        6144 + 2,
    ),
    "no strategy, a group": ({"num_bits": 4, "group_size": 32}, {}, 3072 + 384 + 16),
    "no strategy, rows": ({"num_bits": 4, "group_size": -1}, {}, 3072 + 128 + 16),
    "dynamic inputs": (
        {**FP8, "strategy": "channel"},
        {"format": "float-quantized", "inputs": {**STATIC, "dynamic": True}},
        6144 + 128,
    ),
    "nvfp4 without inputs": (NVFP4, {"format": "nvfp4-pack-quantized"}, 3072 + 64 * 6 + 4),
    "blocks that do not divide": (
        {**BLOCKS, "block_structure": [48, 40]},
        {"format": "float-quantized"},
        6144 + 2 * 3 * 2,
    ),
    "no bits": ({"strategy": "channel"}, {"format": "naive-quantized"}, 6144 + 128),
    "groups that do not divide": ({**INT4, "group_size": 40}, {}, 3072 + 64 * 3 * 2 + 16),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_change_the_bytes(tiny_llama, case):
    weights, rest, expected = SETTINGS[case]
    sizes = quantized_bytes(tiny_llama, config(weights, **rest), dtype=BF16)
    assert sizes.bytes["model.layers.0.mlp.down_proj.weight"] == expected
    assert sum(sizes.parts.values()) == sum(sizes.bytes.values())


def test_the_format_of_a_group_overrules_that_of_the_config(tiny_llama):
    mixed = config({**CHANNEL, "num_bits": 8}, format="mixed-precision")
    mixed["config_groups"]["group_0"]["format"] = "int-quantized"
    sizes = quantized_bytes(tiny_llama, mixed, dtype=BF16)
    assert sizes.bytes["model.layers.0.mlp.down_proj.weight"] == 6144 + 128


@pytest.mark.skipif(not UNPACKS, reason="before transformers 5 packed weights stay packed")
@pytest.mark.parametrize("model", ["tiny_llama", "tiny_moe"])
def test_the_note_on_unpacking_says_what_is_stored_and_what_lies_in_memory(request, model):
    sizes = quantized_bytes(request.getfixturevalue(model), config(INT4), dtype=BF16)
    (note,) = (note for note in sizes.notes if "unpack" in note)
    stored = format_bytes(sum(sizes.bytes.values()))
    in_memory = format_bytes(sum(sizes.in_memory.values()))
    assert f": {stored} in the checkpoint become {in_memory} in memory" in note
    assert sum(sizes.in_memory.values()) > 2 * sum(sizes.bytes.values())


@pytest.mark.skipif(not UNPACKS, reason="before transformers 5 packed weights stay packed")
def test_experts_lose_their_scales_and_linears_keep_them(tiny_moe):
    """Experts are unpacked while they are loaded; ``run_compressed: false`` does so to all."""
    sizes = quantized_bytes(tiny_moe, config(INT4), dtype=BF16)
    linear, experts = (
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.mlp.experts.down_proj",
    )
    plain = {name: tiny_moe.get_parameter(name).nbytes for name in (linear, experts)}
    assert sizes.resident[experts] == plain[experts]
    assert sizes.resident[linear] == plain[linear] + 64 * 2 * 2 + 16
    for told in ({"run_compressed": False}, {"dequantize": True}):
        unpacked = quantized_bytes(tiny_moe, {**config(INT4), **told}, dtype=BF16)
        assert {name: unpacked.resident[name] for name in plain} == plain
    assert quantized_bytes(tiny_moe, config(INT4, targets=()), dtype=BF16).notes == ()


def test_experts_are_met_under_the_names_of_the_checkpoint():
    """Mixtral's projections are w1, w2 and w3 of block_sparse_moe there."""
    hyperparameters = {**TINY, "num_local_experts": 4}
    model = skeleton("MixtralConfig", "MixtralForCausalLM", **hyperparameters)
    if not UNPACKS:
        pytest.skip("before transformers 5 experts are linears, under the checkpoint's names")
    for pattern in ("re:.*experts.*w1", "re:.*block_sparse_moe.*"):
        sizes = quantized_bytes(model, config(INT4, ignore=(pattern,)), dtype=BF16)
        assert "model.layers.0.mlp.experts.gate_up_proj" not in sizes.bytes
        assert pattern in sizes.unquantized["model.layers.0.mlp.experts"]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (config(INT4, format="marlin-24"), ["marlin-24", "pack-quantized"]),
        (config({**INT4, "group_size": None}), ["group_size"]),
        (config({**INT4, "group_size": None, "strategy": "token"}), ["token", "group_size"]),
        (config({**FP8, "strategy": "block"}), ["block", "block_structure"]),
        (config(INT4, targets=("re:*",)), ["re:*", "regular expression"]),
    ],
)
def test_configs_that_cannot_be_are_refused_in_one_line(tiny_llama, broken, words):
    with pytest.raises(InputError) as refused:
        quantized_bytes(tiny_llama, broken, dtype=BF16)
    message = str(refused.value)
    assert all(word in message for word in words) and "\n" not in message
