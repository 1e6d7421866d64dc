"""A mismatch that the model's own code makes, and the repair that the finding names."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, IBertConfig, MarianConfig, MarianMTModel, VitsConfig

from devplan.checker.checking import check
from devplan.core.device_map import device_map_of
from devplan.core.findings import CheckResult, Severity
from devplan.core.workload import Workload
from tests.checks.case import HERE, model_name

LLAMA = model_name("tiny_llama")
SPLIT_LAYER = HERE / "cases" / "DP202_split_layer" / "map.yaml"


def test_split_layer_is_run_and_repaired():
    model = model_name("tiny_biogpt")
    found = check(model, SPLIT_LAYER)
    mismatch = next(d for d in found.findings if d.code == "DP301")
    assert mismatch.module == "biogpt.layers.1"
    assert mismatch.op == "aten.add.Tensor"
    assert mismatch.source.file == "transformers/models/biogpt/modeling_biogpt.py"
    assert "residual" in mismatch.source.text
    assert (mismatch.entry.key, mismatch.entry.line) == ("biogpt.layers.1.fc1", 6)
    assert "found at least two devices, cuda:0 and cuda:1" in mismatch.pytorch_message

    devices = {entry.key: entry.device for entry in found.entries}
    repaired = check(model, device_map_of({**devices, **mismatch.fix.changed_entries}))
    assert [d.code for d in repaired.findings if d.severity is not Severity.NOTE] == []
    assert repaired.runs[0].phases == found.runs[0].phases


def repaired(result: CheckResult) -> dict[str, str]:
    """The map with what the errors of a check would change."""
    entries = {entry.key: entry.device for entry in result.entries}
    for finding in result.errors:
        entries = {k: d for k, d in entries.items() if k not in finding.fix.dropped_entries}
        entries |= finding.fix.changed_entries
    return entries


@pytest.mark.parametrize(
    "device_map, code",
    [
        ({"model": 0, "model.layers.3": 1, "lm_head": 0}, "DP301"),
        ({"": 0, "model.layers.3": 1}, "DP301"),
        ({"model": 0, "model.layers.3": "disk", "lm_head": 0}, "DP302"),
        ({"model": "disk", "model.layers.3": 0, "lm_head": "disk"}, "DP302"),
    ],
)
def test_an_exception_inside_a_placed_module_is_repaired_by_naming_the_others(device_map, code):
    found = check(LLAMA, device_map)
    (finding,) = (d for d in found.errors if d.code == code)
    assert code == "DP302" or len(finding.also_at) >= 5
    assert finding.fix.dropped_entries and "no entry repairs it" not in finding.fix.text
    devices = repaired(found)
    assert devices["model.layers.2"] != devices["model.layers.3"]
    clean = check(LLAMA, devices, workload=Workload(context=64))
    assert clean.errors == () and clean.runs[0].phases[-1] == "decode 2"


def test_a_part_without_parts_may_be_an_exception():
    device_map = {"model": 0, "model.norm": 1, "lm_head": 0}
    assert check(LLAMA, device_map).errors == ()


def test_a_split_of_a_declared_module_that_ran_is_a_note():
    """Embeddings of BERT are declared whole; the sums of this class take what hooks bring."""
    config = BertConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        architectures=["BertModel"],
    )
    parts = ("word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm")
    names = [f"embeddings.{part}" for part in parts]
    buffers = ("embeddings.position_ids", "embeddings.token_type_ids")
    whole = dict.fromkeys((*names, *buffers, "encoder", "pooler"), "cpu")
    ran = check(config, {**whole, "embeddings.LayerNorm": "disk"}, main_device="cpu")
    (finding,) = (d for d in ran.findings if d.code == "DP201")
    assert finding.severity is Severity.NOTE and "ran without a mismatch" in finding.message
    assert ran.errors == ()
    cards = dict.fromkeys(whole, "cuda:0")
    broken = check(config, {**cards, "embeddings.position_embeddings": 1})
    assert {d.code for d in broken.errors} == {"DP301"}
    assert "DP201" not in {d.code for d in broken.findings}


TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}


def test_a_split_layer_is_one_mistake_with_the_line_that_shows_it():
    names = ("model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head")
    layers = {f"model.layers.{i}": int(i >= 3) for i in range(6)}
    device_map = {**dict.fromkeys(names, 0), **layers}
    split = {"model.layers.4.self_attn": 0, "model.layers.5.mlp": 0}
    found = check(LLAMA, {**device_map, **split})
    (error,) = found.errors
    assert error.code == "DP301" and error.source.file.endswith("modeling_llama.py")
    assert "model.layers.4 and model.layers.5 are split" in error.message
    assert "a LlamaDecoderLayer must stay whole" in error.message
    assert "DP201" not in {each.code for each in found.findings}
    changed = {**device_map, **split, **error.fix.changed_entries}
    repaired = check(
        LLAMA, {k: d for k, d in changed.items() if k not in error.fix.dropped_entries}
    )
    assert {each.code for each in repaired.findings}.isdisjoint({"DP201", "DP301"})
    assert repaired.errors == ()


@pytest.mark.parametrize(
    "config",
    [
        VitsConfig(
            **TINY,
            ffn_dim=32,
            flow_size=32,
            spectrogram_bins=9,
            upsample_initial_channel=16,
            upsample_rates=[2],
            upsample_kernel_sizes=[4],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1]],
            architectures=["VitsModel"],
        ),
        IBertConfig(**TINY, intermediate_size=32, quant_mode=True, architectures=["IBertModel"]),
    ],
    ids=["a check of made-up values", "numpy of tensors without values"],
)
def test_code_that_looks_at_values_runs_to_its_end(config):
    result = check(config, {"": 0}, workload=Workload(context=64))
    assert result.runs[0].phases == ("forward",)
    assert not {"DP302"} & {d.code for d in result.findings}


def test_a_weight_that_is_never_saved_cannot_wait_on_disk(tmp_path):
    """from_pretrained takes the map, and the first call misses the weight: so does the check."""
    config = MarianConfig(
        **dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim"), 16),
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
        **dict.fromkeys(("encoder_layers", "decoder_layers"), 1),
        **dict.fromkeys(("pad_token_id", "decoder_start_token_id"), 0),
        vocab_size=64,
        max_position_embeddings=64,
        eos_token_id=1,
        forced_eos_token_id=1,
    )
    MarianMTModel(config).save_pretrained(tmp_path / "model")
    positions = "model.decoder.embed_positions"
    decoder = ("model.decoder.embed_tokens", "model.decoder.layers")
    on_cpu = ("model.shared", "model.encoder", *decoder, "lm_head", "final_logits_bias")
    device_map = {**dict.fromkeys(on_cpu, "cpu"), positions: "disk"}
    ids = {"input_ids": torch.ones(1, 4, dtype=torch.int64)}
    model = MarianMTModel.from_pretrained(
        tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "offload"
    )
    with pytest.raises(KeyError, match=positions):
        model(**ids, decoder_input_ids=ids["input_ids"])
    found = check(tmp_path / "model", device_map, workload=Workload(context=32))
    (finding,) = found.errors
    assert (finding.code, finding.entry.key, finding.module) == ("DP302", positions, positions)
    assert "never saves it" in finding.message and "embed_positions(" in finding.source.text
    clean = check(tmp_path / "model", repaired(found), workload=Workload(context=32))
    assert clean.errors == () and clean.runs[0].phases[-1] == "decode 2"
