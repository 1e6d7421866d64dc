"""Headers of checkpoints, attributed to parameters; and the combined answer."""

from __future__ import annotations

import json
import math
import random
import struct
import time
from dataclasses import dataclass

import pytest
import torch
import transformers

from devplan.core.errors import InputError
from devplan.profile.checkpoint import stored_bytes
from devplan.profile.parameters import parameter_bytes
from devplan.profile.quantization import quantized_bytes
from tests.profile.quant_skeletons import BF16, DTYPE, TINY, TINY_MOE, skeleton, total_bytes


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


def headers(folder) -> dict[str, Tensor]:
    """The headers of all safetensors files in a folder."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            entries = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        for name, entry in entries.items():
            start, end = entry["data_offsets"]
            found[name] = Tensor(name, entry["dtype"], tuple(entry["shape"]), end - start)
    return found


def plain(dtype: str, itemsize: int, name: str, *shape: int) -> list[Tensor]:
    return [Tensor(name, dtype, shape, itemsize * math.prod(shape))]


# Families that store what they load under other names: experts one by one, renamed modules, a
# language model that moved, fused and split projections, tied embeddings.
SAVED = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", TINY),
    "tied": ("LlamaConfig", "LlamaForCausalLM", {**TINY, "tie_word_embeddings": True}),
    "qwen3_moe": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM", TINY_MOE),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", {**TINY, "num_local_experts": 4}),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {"n_embd": 64, "n_layer": 2, "n_head": 4}),
    "qwen2_5_vl": (
        "Qwen2_5_VLConfig",
        "Qwen2_5_VLForConditionalGeneration",
        {
            "text_config": {**TINY, "num_key_value_heads": 4},
            "vision_config": {
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_heads": 2,
                "out_hidden_size": 64,
            },
        },
    ),
}


@pytest.mark.parametrize("family", SAVED)
def test_what_save_pretrained_stores_is_attributed_to_the_byte(tmp_path, family):
    config_class, model_class, hyperparameters = SAVED[family]
    if not hasattr(transformers, model_class):
        pytest.skip(f"transformers {transformers.__version__} has no {model_class}")
    config = getattr(transformers, config_class)(**hyperparameters)
    model = getattr(transformers, model_class)._from_config(config, **{DTYPE: BF16})
    model.save_pretrained(tmp_path)
    found = stored_bytes(model, headers(tmp_path))
    assert found.bytes == {name: p.nbytes for name, p in model.named_parameters()}
    assert found.unmatched == {} and found.missing == () and not found.packed


def test_a_checkpoint_of_the_base_model_and_the_other_way_round(tmp_path):
    config = transformers.LlamaConfig(**TINY)
    whole = transformers.LlamaForCausalLM._from_config(config, **{DTYPE: BF16})
    whole.save_pretrained(tmp_path / "whole")
    whole.model.save_pretrained(tmp_path / "base")
    found = stored_bytes(whole, headers(tmp_path / "base"))
    assert found.missing == ("lm_head.weight",) and found.unmatched == {}
    found = stored_bytes(whole.model, headers(tmp_path / "whole"))
    assert found.missing == () and set(found.unmatched) == {"lm_head.weight"}


def test_a_tied_embedding_stored_twice_counts_once(tied_llama):
    stored = {}
    for name, parameter in tied_llama.named_parameters(remove_duplicate=False):
        stored[name] = Tensor(name, "BF16", tuple(parameter.shape), parameter.nbytes)
    assert "lm_head.weight" in stored
    found = stored_bytes(tied_llama, stored)
    assert found.bytes == {name: p.nbytes for name, p in tied_llama.named_parameters()}
    del stored["model.embed_tokens.weight"]
    assert stored_bytes(tied_llama, stored).missing == ()


def test_buffers_and_strangers_are_kept_apart(tiny_llama):
    tiny_llama.model.register_buffer("ticks", torch.zeros(3, device="meta"))
    tensors = plain("F32", 4, "model.ticks", 3) + plain("F32", 4, "model.layers.9.mlp.x", 5)
    found = stored_bytes(tiny_llama, {t.name: t for t in tensors})
    assert found.buffers == {"model.ticks": 12}
    assert found.unmatched == {"model.layers.9.mlp.x": 20}
    assert len(found.missing) == len(list(tiny_llama.named_parameters()))


PIECES = {
    "gptq": ["qweight", "qzeros", "scales", "g_idx"],
    "compressed-tensors": ["weight_packed", "weight_scale", "weight_shape", "weight_zero_point"],
    "fp8": ["weight", "weight_scale_inv", "activation_scale"],
    "bitsandbytes_8bit": ["weight", "SCB", "weight_format"],
    "bitsandbytes_4bit": [
        "weight",
        "weight.absmax",
        "weight.quant_map",
        "weight.nested_absmax",
        "weight.nested_quant_map",
        "weight.quant_state.bitsandbytes__nf4",
    ],
    "nvfp4": ["weight_packed", "weight_scale", "weight_global_scale", "input_global_scale"],
    "eetq": ["weight", "weight_scales"],
    "quanto": ["weight._data", "weight._scale", "weight._shift"],
    "torchao": ["_weight_qdata", "_weight_scale", "_weight_zero_point"],
}


@pytest.mark.parametrize("method", PIECES)
@pytest.mark.parametrize(
    ("module", "parameter"),
    [
        ("model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.q_proj.weight"),
        ("model.layers.1.mlp.experts.3.up_proj", "model.layers.1.mlp.experts.gate_up_proj"),
    ],
)
def test_pieces_belong_to_their_weight(tiny_moe, method, module, parameter):
    if "experts" in module and not hasattr(tiny_moe.model.layers[1].mlp.experts, "gate_up_proj"):
        pytest.skip("this transformers keeps experts apart")
    tensors = [Tensor(f"{module}.{piece}", "U8", (5,), 5) for piece in PIECES[method]]
    found = stored_bytes(tiny_moe, {t.name: t for t in tensors})
    assert found.bytes == {parameter: 5 * len(tensors)}
    assert found.packed == {parameter} and found.unmatched == {}


def test_pieces_of_fused_experts_belong_to_them():
    model = skeleton("GptOssConfig", "GptOssForCausalLM", num_hidden_layers=1)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    tensors = [Tensor(f"{name}_{piece}", "U8", (7,), 7) for piece in ("blocks", "scales")]
    tensors += plain("BF16", 2, f"{name}_bias", 4)
    found = stored_bytes(model, {t.name: t for t in tensors})
    assert found.bytes == {name: 14, f"{name}_bias": 8} and found.packed == {name}


# ------------------------------------------------------------------ DeepSeek-V3's real headers


def fp8_linear(name: str, rows: int, columns: int) -> list[Tensor]:
    blocks = (math.ceil(rows / 128), math.ceil(columns / 128))
    weight = plain("F8_E4M3", 1, f"{name}.weight", rows, columns)
    return weight + plain("F32", 4, f"{name}.weight_scale_inv", *blocks)


def deepseek_headers() -> dict[str, Tensor]:
    """All 91,991 tensors of deepseek-ai/DeepSeek-V3, the layer for prediction (61) included."""
    hidden, vocabulary = 7168, 129_280
    found = plain("BF16", 2, "model.embed_tokens.weight", vocabulary, hidden)
    found += plain("BF16", 2, "lm_head.weight", vocabulary, hidden)
    found += plain("BF16", 2, "model.norm.weight", hidden)
    for index in range(62):
        layer = f"model.layers.{index}"
        for name, rows, columns in (
            ("q_a_proj", 1536, hidden),
            ("q_b_proj", 24_576, 1536),
            ("kv_a_proj_with_mqa", 576, hidden),
            ("kv_b_proj", 32_768, 512),
            ("o_proj", hidden, 16_384),
        ):
            found += fp8_linear(f"{layer}.self_attn.{name}", rows, columns)
        found += plain("BF16", 2, f"{layer}.self_attn.q_a_layernorm.weight", 1536)
        found += plain("BF16", 2, f"{layer}.self_attn.kv_a_layernorm.weight", 512)
        found += plain("BF16", 2, f"{layer}.input_layernorm.weight", hidden)
        found += plain("BF16", 2, f"{layer}.post_attention_layernorm.weight", hidden)
        if index < 3:
            mlps, width = ["mlp"], 18_432
        else:
            experts = [f"mlp.experts.{expert}" for expert in range(256)]
            mlps, width = [*experts, "mlp.shared_experts"], 2048
            found += plain("BF16", 2, f"{layer}.mlp.gate.weight", 256, hidden)
            found += plain("F32", 4, f"{layer}.mlp.gate.e_score_correction_bias", 256)
        for mlp in mlps:
            found += fp8_linear(f"{layer}.{mlp}.gate_proj", width, hidden)
            found += fp8_linear(f"{layer}.{mlp}.up_proj", width, hidden)
            found += fp8_linear(f"{layer}.{mlp}.down_proj", hidden, width)
    for name, *shape in (
        ("enorm.weight", hidden),
        ("hnorm.weight", hidden),
        ("eh_proj.weight", hidden, 2 * hidden),
        ("embed_tokens.weight", vocabulary, hidden),
        ("shared_head.norm.weight", hidden),
        ("shared_head.head.weight", vocabulary, hidden),
    ):
        found += plain("BF16", 2, f"model.layers.61.{name}", *shape)
    random.Random(0).shuffle(found)  # as shards have them
    return {tensor.name: tensor for tensor in found}


DEEPSEEK_FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}


@pytest.fixture(scope="module")
def deepseek():
    pytest.importorskip("transformers.models.deepseek_v3")
    return skeleton("DeepseekV3Config", "DeepseekV3ForCausalLM")


@pytest.fixture(scope="module")
def deepseek_stored():
    return deepseek_headers()


def test_the_headers_are_those_that_the_hub_counts(deepseek_stored):
    counts = {}
    for tensor in deepseek_stored.values():
        counts[tensor.dtype] = counts.get(tensor.dtype, 0) + math.prod(tensor.shape)
    assert counts == {"BF16": 3_918_786_560, "F8_E4M3": 680_571_043_840, "F32": 41_555_600}


def test_stored_and_computed_sizes_of_deepseek_v3_are_the_same(deepseek, deepseek_stored):
    start = time.perf_counter()
    found = stored_bytes(deepseek, deepseek_stored)
    seconds = time.perf_counter() - start
    formula = quantized_bytes(deepseek, DEEPSEEK_FP8, dtype=BF16)
    assert {name: found.bytes[name] for name in found.packed} == dict(formula.bytes)
    assert found.missing == () and len(found.buffers) == 58
    assert {name.split(".")[2] for name in found.unmatched} == {"61"}
    assert len(found.unmatched) == 1564 and sum(found.unmatched.values()) == 15_424_227_552
    assert seconds < 10  # 0.5 s on two idle cores


def test_headers_and_formula_give_one_answer(deepseek, deepseek_stored):
    by_headers = parameter_bytes(
        deepseek, dtype=BF16, quantization_config=DEEPSEEK_FP8, stored=deepseek_stored
    )
    by_formula = parameter_bytes(deepseek, dtype=BF16, quantization_config=DEEPSEEK_FP8)
    assert by_headers == by_formula
    assert total_bytes(deepseek, by_headers.exceptions) == 673_150_552_416


# --------------------------------------------------------------------------- the combined answer


def test_an_unquantized_model_has_no_exceptions(tiny_llama):
    """Whatever the checkpoint stores: from_pretrained casts."""
    stored = plain("F32", 4, "lm_head.weight", 128, 64)
    sizes = parameter_bytes(tiny_llama, dtype=BF16, stored={t.name: t for t in stored})
    assert sizes.exceptions == {} and sizes.quantization is None and sizes.notes == ()


def test_parameters_in_another_dtype_are_exceptions():
    model = skeleton(
        "T5Config",
        "T5ForConditionalGeneration",
        torch.float16,
        d_model=64,
        d_kv=16,
        d_ff=96,
        num_layers=1,
        num_heads=4,
    )
    sizes = parameter_bytes(model, dtype=torch.float16)
    assert sizes.exceptions == {
        f"{stack}.block.0.layer.{layer}.DenseReluDense.wo.weight": 64 * 96 * 4
        for stack, layer in (("encoder", 1), ("decoder", 2))
    }


def _packed_checkpoint(model, *, method_bytes: int) -> dict[str, Tensor]:
    tensors = {}
    for name, parameter in model.named_parameters():
        if name.endswith("_proj.weight"):
            module = name.removesuffix(".weight")
            tensors[f"{module}.qweight"] = Tensor(f"{module}.qweight", "I32", (1,), method_bytes)
        else:
            tensors[name] = Tensor(name, "BF16", tuple(parameter.shape), parameter.nbytes)
    return tensors


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32}


def test_the_checkpoint_is_believed_where_it_disagrees(tiny_llama):
    stored = _packed_checkpoint(tiny_llama, method_bytes=99_999)
    sizes = parameter_bytes(tiny_llama, dtype=BF16, quantization_config=GPTQ, stored=stored)
    assert sizes.exceptions["model.layers.0.mlp.up_proj.weight"] == 99_999
    assert any("the checkpoint is believed" in note for note in sizes.notes)


def test_the_formula_is_taken_where_something_is_missing(tiny_llama):
    stored = _packed_checkpoint(tiny_llama, method_bytes=99_999)
    del stored["model.norm.weight"]
    sizes = parameter_bytes(tiny_llama, dtype=BF16, quantization_config=GPTQ, stored=stored)
    assert sizes.exceptions == quantized_bytes(tiny_llama, GPTQ, dtype=BF16).resident
    assert any(
        "model.norm.weight" in note and "1 of the parameters" in note for note in sizes.notes
    )


def test_an_unknown_method_is_read_off_the_headers(tiny_llama):
    stored = _packed_checkpoint(tiny_llama, method_bytes=77)
    config = {"quant_method": "aqlm"}
    sizes = parameter_bytes(tiny_llama, dtype=BF16, quantization_config=config, stored=stored)
    assert set(sizes.exceptions.values()) == {77} and sizes.quantization == "aqlm"
    assert any("aqlm" in note for note in sizes.notes)
    with pytest.raises(InputError, match="aqlm"):
        parameter_bytes(tiny_llama, dtype=BF16, quantization_config=config)
    del stored["model.norm.weight"]
    with pytest.raises(InputError, match="aqlm"):
        parameter_bytes(tiny_llama, dtype=BF16, quantization_config=config, stored=stored)


def test_quantizing_an_unquantized_checkpoint_goes_by_the_formula(tiny_llama):
    stored = {
        name: Tensor(name, "BF16", tuple(p.shape), p.nbytes)
        for name, p in tiny_llama.named_parameters()
    }
    config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    sizes = parameter_bytes(tiny_llama, dtype=BF16, quantization_config=config, stored=stored)
    assert sizes.exceptions == quantized_bytes(tiny_llama, config, dtype=BF16).bytes
    assert sizes.packed == sizes.exceptions and sizes.quantization == "bitsandbytes_4bit"


def test_unpacking_while_loading_outweighs_the_headers(tiny_llama):
    stored = {}
    for name, parameter in tiny_llama.named_parameters():
        stored[name] = Tensor(name, "F8_E4M3", tuple(parameter.shape), parameter.numel())
    config = {**DEEPSEEK_FP8, "dequantize": True}
    sizes = parameter_bytes(tiny_llama, dtype=BF16, quantization_config=config, stored=stored)
    assert sizes.exceptions == {}
