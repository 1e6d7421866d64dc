"""The closed loop: what is suggested was run, and what a run teaches becomes a constraint."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import CONFIG_MAPPING

from devplan.checker.checking import check
from devplan.checker.run_options import RunOptions
from devplan.core.errors import InputError
from devplan.core.types import ActivationGrowth, Infeasible, Plan
from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.mapfile.read import loads_map
from devplan.mapfile.write import dump_map
from devplan.workflows.suggesting import suggest

# Small versions of real classes: (class, type, configuration).  FlauBERT keeps the parts of a layer
# in lists of their own, so that a plan may cut inside a layer; its masks are never moved.


def flaubert(num_layers: int):
    settings = {"n_layers": num_layers, "emb_dim": 1024, "n_heads": 4}
    return ("FlaubertWithLMHeadModel", "flaubert", settings)


LLAMA = (
    "LlamaForCausalLM",
    "llama",
    {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "vocab_size": 8192,
        "max_position_embeddings": 2**17,
    },
)


def folder_of(tmp_path, model) -> str:
    class_name, model_type, settings = model
    config = CONFIG_MAPPING[model_type](**settings).to_dict()
    config |= {"architectures": [class_name], "model_type": model_type, "dtype": "float32"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(tmp_path)


def suggested(tmp_path, model, gpus, context=1024, **more):
    machine = parse_gpus(gpus, reserve="0")
    return suggest(folder_of(tmp_path, model), machine, Workload(context=context), **more)


def test_a_suggested_map_was_run_and_fits(tmp_path):
    found = suggested(tmp_path, LLAMA, "800MiB,500MiB")
    verification = found.map_file.verification
    assert verification.status == "clean", verification.detail
    assert not found.errors
    for load in found.result.loads:
        assert load.activation_bytes > 0
        assert verification.peak_bytes[load.device] <= load.capacity_bytes
        # What was foretold from one card holds what the split run needed, and little more.
        foretold = load.load_bytes + load.activation_bytes
        assert verification.peak_bytes[load.device] <= 1.01 * foretold
        assert verification.peak_bytes[load.device] >= load.load_bytes + load.activation_bytes // 2


def test_without_verification_the_map_says_so(tmp_path):
    found = suggested(tmp_path, LLAMA, "800MiB,500MiB", verify=False)
    assert found.map_file.verification.status == "unverified"
    assert found.check is None


def test_longer_prompts_need_more_room(tmp_path):
    short = suggested(tmp_path, LLAMA, "800MiB,800MiB", context=256).result
    long = suggested(tmp_path, LLAMA, "800MiB,800MiB", context=2048).result
    for few, many in zip(short.loads, long.loads, strict=True):
        assert few.activation_bytes < many.activation_bytes


def runs_need(monkeypatch, more: float) -> None:
    """Let every run need so many times as much beside weights and cache."""
    import devplan.workflows.plan_runner as examining

    real = examining.run_all

    def needing_more(prepared, options):
        subject = real(prepared, options)
        first, *others = subject.runs
        peaks = tuple(replace(peak, peak_bytes=needed(peak)) for peak in first.peaks)
        return replace(subject, runs=(replace(first, peaks=peaks), *others))

    def needed(peak):
        kept = peak.weight_bytes + peak.cache_bytes
        return kept + int(more * (peak.peak_bytes - kept))

    monkeypatch.setattr(examining, "run_all", needing_more)


def test_nothing_fits_that_keeps_to_what_a_run_taught(tmp_path, monkeypatch):
    foretold = suggested(tmp_path, LLAMA, "800MiB,500MiB")
    assert isinstance(foretold.result, Plan)
    runs_need(monkeypatch, 100)
    found = suggested(tmp_path, LLAMA, "800MiB,500MiB")
    assert isinstance(found.result, Infeasible)
    assert found.map_file is None and found.check is None and not found.errors
    # What is missing without the lessons does not say why; the lessons do.
    assert "; the model's code needs: cuda:0 keeps " in found.result.reason
    assert "for activations" in found.result.reason
    assert found.result.shortfalls and found.result.proven


def test_what_a_run_taught_and_the_users_pins_exclude_is_no_proof(tmp_path):
    """The parts of a layer that a run wants together are pinned apart."""
    pins = {"transformer.attentions.0": "cuda:0", "transformer.ffns.0": "cuda:1"}
    found = suggested(tmp_path, flaubert(4), "400MiB,256MiB", context=64, pins=pins)
    assert isinstance(found.result, Infeasible)
    assert "pinned apart: transformer.layer_norm1.0 to cuda:0" in found.result.reason
    assert "layer_norm1.0 and transformer.ffns.0 on one device" in found.result.reason
    assert not found.result.proven and found.map_file is None


@pytest.mark.parametrize("pinned", ["transformer.layer_norm1", "transformer.layer_norm1.1.weight"])
def test_the_users_pin_around_or_inside_a_block_wins_over_what_a_run_taught(tmp_path, pinned):
    free = suggested(tmp_path, flaubert(4), "400MiB,256MiB", context=64)
    lesson = "transformer.layer_norm1.1 on cuda:0"
    assert lesson in {each.change for each in free.map_file.constraints}
    pins = {pinned: "cuda:1"}
    found = suggested(tmp_path, flaubert(4), "400MiB,256MiB", context=64, pins=pins)
    assert isinstance(found.result, Plan)
    assert lesson not in {each.change for each in found.map_file.constraints}
    assert found.result.placement["transformer.layer_norm1.1"] == "cuda:1"
    (pin,) = (pin for pin in found.result.pins if pin.block == "transformer.layer_norm1.1")
    assert "modeling_flaubert.py" not in pin.reason


def test_what_a_run_finds_becomes_constraints_until_it_finds_nothing(tmp_path):
    found = suggested(tmp_path, flaubert(4), "400MiB,256MiB", context=64)
    assert found.map_file.verification.status == "clean"
    assert not found.errors
    assert {load.device for load in found.result.loads if load.weight_bytes} == {"cuda:0", "cuda:1"}
    assert found.map_file.constraints
    assert all("modeling_flaubert.py:" in each.finding for each in found.map_file.constraints)
    asked = {pin.block: pin.reason for pin in found.result.pins}
    for each in found.map_file.constraints:
        block, _, device = each.change.partition(" on ")
        if device in ("cuda:0", "cuda:1"):
            assert found.result.placement[block] == device
            assert "modeling_flaubert.py:" in asked[block]


# --------------------------------------------------------------------------- which calls are proven


def test_a_map_says_which_calls_are_proven_and_which_are_not(tmp_path):
    found = suggested(tmp_path, LLAMA, "800MiB,500MiB")
    told = loads_map(dump_map(found.map_file, "map.yaml"), "map.yaml").verification
    assert told.runs[0] == "generate" and "a padded batch of 2 (64 tokens)" in told.runs
    assert told.not_covered.startswith("the memory of a forward over all positions at 1,024 tokens")


@pytest.mark.parametrize("run", ["forward", "all"])
def test_a_plan_for_a_forward_over_all_positions_holds_one(tmp_path, run):
    """Logits of all positions are 512 MiB, those of the last one 128 KiB."""
    gpus, context = "1100MiB,1300MiB", 4096
    model = (*LLAMA[:2], {**LLAMA[2], "vocab_size": 32768})
    usual = suggested(tmp_path, model, gpus, context=context)
    forward = RunOptions(run="forward")
    folder = str(tmp_path)
    (over,) = check(folder, usual.map_file, options=forward).errors
    assert over.code == "DP101" and over.module == "cuda:0"
    found = suggested(tmp_path, model, gpus, context=context, run=run)
    assert check(folder, found.map_file, options=forward).is_strictly_clean
    told = found.map_file.verification
    assert told.status == "clean" and "forward" in told.runs
    assert ("generate" in told.runs) is (run == "all") is (not told.not_covered)
    first, second = (f.result.loads[0].activation_bytes for f in (usual, found))
    assert second >= first + 2**28


# ----------------------------------------------------------------------------- the most tokens


def test_the_most_tokens_are_run_at_that_many(tmp_path):
    found = suggested(tmp_path, LLAMA, "800MiB,500MiB", context=256, objective="context")
    tokens = found.workload.tokens
    assert tokens == found.map_file.workload.tokens > 256
    assert found.map_file.verification.status == "clean"
    assert f"at {tokens:,} tokens x batch 1" in found.map_file.verification.detail
    assert found.map_file.certificate.most_tokens >= tokens
    assert found.map_file.certificate.first_full in ("cuda:0", "cuda:1")
    for load in found.result.loads:
        peak = found.map_file.verification.peak_bytes[load.device]
        assert load.load_bytes + load.activation_bytes // 2 <= peak <= load.capacity_bytes


@pytest.mark.parametrize("more", [1.3, 3])
def test_the_most_tokens_shrink_where_the_run_needs_more_than_was_foretold(
    tmp_path, monkeypatch, more
):
    """Runs of the split model in which a card needs more beside weights and cache."""
    foretold = suggested(tmp_path, LLAMA, "1GiB,1GiB", context=64, objective="context")
    runs_need(monkeypatch, more)
    found = suggested(tmp_path, LLAMA, "1GiB,1GiB", context=64, objective="context")
    assert 64 <= found.workload.tokens < foretold.workload.tokens
    assert found.map_file.verification.status == "clean"
    assert any("for activations" in each.change for each in found.map_file.constraints)
    for load in found.result.loads:
        peak = found.map_file.verification.peak_bytes[load.device]
        assert load.load_bytes + load.activation_bytes // 2 <= peak <= load.capacity_bytes


def test_the_context_ends_at_the_models_own_limit(tmp_path):
    short = (*LLAMA[:2], {**LLAMA[2], "max_position_embeddings": 512})
    found = suggested(tmp_path, short, "4GiB,4GiB", context=256, objective="context")
    assert found.workload.tokens == 512
    assert "at 512 tokens x batch 1" in found.map_file.verification.detail
    (note,) = (note for note in found.map_file.notes if "own limit" in note)
    assert "512 tokens" in note
    assert "not memory's" in note


def test_code_that_no_plan_repairs_is_named(tmp_path):
    found = suggested(tmp_path, flaubert(8), "450MiB,450MiB", context=64)
    assert found.errors
    assert found.map_file.verification.status == "findings"
    assert "modeling_flaubert.py:" in found.map_file.verification.detail
    (said,) = found.cures
    assert said.startswith("nothing that fits on one GPU") and "fits on none" in said


def test_what_lets_a_broken_model_run_is_tried_and_offered(tmp_path, monkeypatch):
    gpus = "2GiB,450MiB"
    monkeypatch.setattr(
        "devplan.workflows.refinement.MOST_ROUNDS", 1
    )  # as if nothing could be learnt
    found = suggested(tmp_path, flaubert(8), gpus, context=64)
    assert found.errors
    (offer,) = found.cures
    typed, _, _ = offer.partition(": ")
    pins = dict(word.split("=") for word in typed.split() if "=" in word)
    cured = suggested(tmp_path, flaubert(8), gpus, context=64, pins=pins)
    assert cured.map_file.verification.status == "clean" and not cured.errors


def test_the_embedding_patch_is_tried_and_offered(tmp_path):
    (tmp_path / "inputs.py").write_text(
        "import torch\n\ndef inputs(model, config):\n"
        "    return {'input_ids': torch.arange(10).view(2, 5)}\n"
    )
    pins = {"embed_tokens": "cuda:1", "layers": "cuda:0", "scale": "cuda:0"}
    found = suggest(
        "tests.live.test_patch_virtual:carries_ids",
        parse_gpus("2x1GiB", reserve="0"),
        Workload(),
        pins=pins,
        inputs=f"{tmp_path / 'inputs.py'}:inputs",
    )
    assert found.errors
    assert found.cures[0].startswith("devplan.patch_embeddings(model, ['embed_tokens'], ")


@pytest.mark.parametrize("batch", [1, 4])
@given(
    constant=st.integers(0, 10**6),
    slope=st.integers(0, 10**5),
    square=st.integers(0, 10),
    tokens=st.integers(1, 10**5),
)
def test_activations_between_and_beyond_the_runs(batch, constant, slope, square, tokens):
    def real(n: int) -> int:
        return constant + slope * n + square * n * n

    growth = ActivationGrowth(samples=tuple((n, real(n)) for n in (64, 256, 1024)), batch=batch)
    foretold = growth.bytes_at(tokens, batch)
    assert foretold >= real(tokens)
    if tokens >= 1024:  # beyond the last run the curve itself, rounded up
        assert foretold <= real(tokens) + 2


QWEN2_VL = (
    "Qwen2VLForConditionalGeneration",
    "qwen2_vl",
    {
        "text_config": {**LLAMA[2], "model_type": "qwen2_vl_text"},
        "vision_config": {"depth": 2, "embed_dim": 64, "num_heads": 2, "hidden_size": 1024},
        "vision_start_token_id": 8001,
        "vision_end_token_id": 8002,
        "vision_token_id": 8003,
        "image_token_id": 8004,
        "video_token_id": 8005,
    },
)


def with_images(tmp_path, model, context, **images):
    machine = parse_gpus("3GiB,2GiB", reserve="0")
    request = Workload(context=context, **images)
    return suggest(folder_of(tmp_path, model), machine, request)


def test_the_tower_is_measured_at_the_images_that_were_asked_for(tmp_path):
    few = with_images(tmp_path, QWEN2_VL, 4096, images=1, image_size=(56, 56))
    many = with_images(tmp_path, QWEN2_VL, 4096, images=3, image_size=(560, 560))
    towers = [
        max(
            block.activation_bytes(4096)
            for block in found.graph.blocks
            if block.name.startswith(found.graph.towers[0])
        )
        for found in (few, many)
    ]
    # [patches] 4,800 instead of 16
    assert towers[1] > 50 * towers[0]
    # [whole] images take their place in the context, they do not come on top
    assert "input_ids [1, 4093]" in many.map_file.verification.detail
    assert many.map_file.workload.images == 3


def test_images_that_do_not_fit_into_the_context_are_refused_with_the_numbers(tmp_path):
    with pytest.raises(InputError) as refused:
        with_images(tmp_path, QWEN2_VL, 512, images=2, image_size=(560, 560))
    for fact in ("--context 512", "--images 2", "560x560", "--context 8"):
        assert fact in str(refused.value)


def test_a_model_without_images_refuses_them(tmp_path):
    with pytest.raises(InputError, match=r"--images 1.*leave it out"):
        with_images(tmp_path, LLAMA, 512, images=1)


def test_packed_weights_are_proven_as_they_were_planned():
    """The run of a plan with ``--packed`` counted what transformers unpacks, and found DP101."""
    machine = parse_gpus("16x80GiB")
    found = suggest("moonshotai/Kimi-K2-Thinking", machine, Workload(context=256), packed=True)
    assert found.map_file.verification.status == "clean", found.map_file.verification.detail
