"""What a prefill and a decode step do, against what is known of small models."""

from __future__ import annotations

import pytest

from devplan.core.costs import DECODE, PREFILL
from devplan.core.workload import Workload
from devplan.models.blocks import partition
from devplan.models.build import build_skeleton
from devplan.models.resolution import resolve
from devplan.profile.model import WorkProfile
from devplan.profile.work import measure_work
from tests.small_models import config_folder

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 96,
}
CONTEXT = 67
PROMPT = 64
BYTES = 2


def counted(tmp_path, class_name: str, model_type: str, settings, context=CONTEXT, batch=1):
    folder = config_folder(tmp_path, class_name, model_type, **settings)
    skeleton = build_skeleton(resolve(folder), None)
    sites = partition(skeleton.model, skeleton.no_split)
    return measure_work(skeleton, sites, Workload(context=context, batch=batch))


def read_bytes(profile: WorkProfile, block: str, step: str) -> int:
    return sum(profile.steps[block][step].read_bytes.values())


def test_a_dense_layer(tmp_path):
    profile = counted(tmp_path, "LlamaForCausalLM", "llama", SIZES)
    matrices = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128
    layer = profile.steps["model.layers.1"]
    # A causal prefill looks at half of all pairs of tokens, a decode step at all that are held.
    attention = 4 * 4 * 16 * PROMPT * PROMPT // 2
    assert layer[PREFILL].flops == 2 * matrices * PROMPT + attention
    assert layer[DECODE].flops == 2 * matrices + 4 * 4 * 16 * (PROMPT + 2)
    for step in (PREFILL, DECODE):
        assert read_bytes(profile, "model.layers.1", step) == BYTES * matrices


def test_folded_layers_read_their_own_weights(tmp_path):
    profile = counted(tmp_path, "LlamaForCausalLM", "llama", SIZES)
    works = [profile.steps[f"model.layers.{index}"][DECODE] for index in range(3)]
    assert len({work.flops for work in works}) == 1
    for index, work in enumerate(works):
        assert list(work.read_bytes) == [f"model.layers.{index}"]


def test_a_look_up_reads_rows_and_a_head_everything(tmp_path):
    profile = counted(tmp_path, "LlamaForCausalLM", "llama", SIZES, batch=2)
    assert read_bytes(profile, "model.embed_tokens", DECODE) == 2 * 64 * BYTES
    assert read_bytes(profile, "lm_head", DECODE) == 96 * 64 * BYTES
    # Only the last position gets scores in a prefill.
    assert profile.steps["lm_head"][PREFILL].flops == 2 * 2 * 64 * 96


def test_a_tied_head_reads_the_embedding(tmp_path):
    tied = {**SIZES, "tie_word_embeddings": True}
    profile = counted(tmp_path, "LlamaForCausalLM", "llama", tied)
    assert profile.steps["lm_head"][DECODE].read_bytes == {"model.embed_tokens": 96 * 64 * BYTES}
    assert profile.parameter_bytes["lm_head"] == 0


EXPERTS = {**SIZES, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
EXPERT_BYTES = 3 * 64 * 128 * BYTES
REST_BYTES = (64 * 64 * 2 + 64 * 32 * 2 + 64 * 8) * BYTES


@pytest.mark.parametrize(("batch", "num_used"), [(1, 2), (3, 6), (9, 18)])
def test_only_the_experts_that_are_used_are_read(tmp_path, batch, num_used):
    profile = counted(tmp_path, "Qwen3MoeForCausalLM", "qwen3_moe", EXPERTS, batch=batch)
    # In decode steps the code fetches the experts of every token, the same ones again too.
    read = read_bytes(profile, "model.layers.1", DECODE)
    assert read == REST_BYTES + num_used * EXPERT_BYTES
    # Two experts a token, however many there are.
    flops = profile.steps["model.layers.1"][PREFILL].flops
    tokens = batch * PROMPT
    least = tokens * (REST_BYTES + 2 * EXPERT_BYTES)
    assert least < flops < 1.2 * least


def test_a_model_that_raises_is_assumed_dense(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise ValueError("no such inputs")

    monkeypatch.setattr("devplan.profile.work.example_inputs", refuse)
    profile = counted(tmp_path, "LlamaForCausalLM", "llama", SIZES)
    assert not profile.steps
    assert "ValueError: no such inputs" in profile.notes[0]


def test_decoders_run_without_their_encoder(tmp_path):
    settings = {"d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 4, "d_kv": 16}
    settings |= {"vocab_size": 96, "decoder_start_token_id": 0}
    profile = counted(tmp_path, "T5ForConditionalGeneration", "t5", settings)
    encoder = [name for name in profile.steps if name.startswith("encoder.block")]
    decoder = [name for name in profile.steps if name.startswith("decoder.block")]
    assert encoder and decoder
    assert all(DECODE not in profile.steps[name] for name in encoder)
    assert all(DECODE in profile.steps[name] for name in decoder)
