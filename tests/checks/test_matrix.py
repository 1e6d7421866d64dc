"""The calls that a check makes beside the one at the workload, and what it says of those it cannot
make."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    HubertConfig,
    HubertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2VLConfig,
)

import devplan
from tests.small_models import config_folder

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 256,
}
MAP = {
    **dict.fromkeys(("model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head"), 0),
    **{f"model.layers.{number}": number // 2 for number in range(4)},
}
STEPS = ("prefill", "decode 1", "decode 2")
PADDED, BEAMS, LOSS = (
    "a padded batch of 2",
    "beam search",
    "a forward over all positions with labels",
)


def llama(cls: type[LlamaForCausalLM] = LlamaForCausalLM, **settings) -> LlamaForCausalLM:
    with torch.device("meta"):
        return cls(LlamaConfig(**{**SIZES, "eos_token_id": 2, **settings}))


def ran(result) -> dict[str, tuple[str, ...]]:
    return {run.name: run.phases for run in result.runs}


def codes(result) -> list[str]:
    return [finding.code for finding in result.errors]


def test_a_language_model_is_called_as_users_call_it():
    result = devplan.check(llama(), MAP)
    expected = {"generate": STEPS, PADDED: STEPS, BEAMS: STEPS, LOSS: ("forward",)}
    assert ran(result) == expected
    assert result.is_clean
    assert not result.missed


@pytest.mark.parametrize("eos", [0, [0, 1, 2, 3, 7], list(range(250))])
def test_made_up_tokens_do_not_end_generate(eos):
    result = devplan.check(llama(eos_token_id=eos, pad_token_id=0), MAP)
    assert ran(result)["generate"] == STEPS and ran(result)[BEAMS] == STEPS
    assert not result.missed


class LossElsewhere(LlamaForCausalLM):
    """Weighs the loss with a tensor that lies where the last layer is."""

    def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
        output = super().forward(input_ids, attention_mask, **kwargs)
        if labels is not None:
            hidden = self.model.layers[3].mlp.down_proj.weight
            output.loss = output.logits[..., :128] * hidden[:1]
        return output


class BeamsElsewhere(LlamaForCausalLM):
    """Keeps what it reorders on the device of the last layer."""

    def _reorder_cache(self, cache, beam_idx):
        weight = self.model.layers[3].mlp.down_proj.weight
        cache.reorder_cache(beam_idx)
        return cache if weight.index_select(0, beam_idx) is not None else None


class PaddingElsewhere(LlamaForCausalLM):
    """Looks at the mask only where something is masked."""

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        if attention_mask is not None and not attention_mask.all():
            _ = self.model.layers[3].mlp.down_proj.weight[:1] * attention_mask[:1, :1]
        return super().forward(input_ids, attention_mask, **kwargs)


@pytest.mark.parametrize("cls", [LossElsewhere, BeamsElsewhere, PaddingElsewhere])
def test_a_mistake_on_one_of_these_ways_is_found_by_the_plain_check(cls):
    result = devplan.check(llama(cls), MAP)
    assert codes(result) and set(codes(result)) <= {"DP301", "DP303"}
    assert all(
        finding.source.function != "forward" or cls is not BeamsElsewhere
        for finding in result.errors
    )
    usual = devplan.check(llama(cls), MAP, options=devplan.RunOptions(run="generate"))
    assert codes(usual) == []


class Doubtful(LlamaForCausalLM):
    """Raises where a value that no virtual run knows is not as it should be."""

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        output = super().forward(input_ids, attention_mask, **kwargs)
        if not (output.logits.float().abs().sum() > 0).item():
            raise ValueError("all scores are zero")
        return output


def test_a_made_up_value_that_decides_a_raise_is_tried_both_ways():
    result = devplan.check(llama(Doubtful), MAP)
    assert codes(result) == []
    assert ran(result)["generate"] == STEPS
    assert any("another was taken" in note for note in result.runs[0].notes)


class Refusing(LlamaForCausalLM):
    """Takes one sequence at a time, and no labels."""

    def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
        if labels is not None or input_ids.shape[0] > 1:
            raise ValueError("one sequence without labels")
        return super().forward(input_ids, attention_mask, **kwargs)


def test_what_the_class_refuses_on_one_gpu_is_a_note():
    result = devplan.check(llama(Refusing), MAP)
    assert codes(result) == [] and not result.warnings
    assert {each.name for each in result.missed} == {PADDED, BEAMS, LOSS}
    assert all(each.is_refused and "one sequence" in each.reason for each in result.missed)
    asked = devplan.check(llama(Refusing), MAP, options=devplan.RunOptions(run="beams"))
    assert [finding.code for finding in asked.warnings] == ["DP905"]


class Raising(LlamaForCausalLM):
    def forward(self, input_ids=None, **kwargs):
        raise RuntimeError("no kernel")


def test_what_raises_on_one_gpu_too_is_not_blamed_on_the_map():
    result = devplan.check(llama(Raising), MAP)
    assert codes(result) == []
    (finding,) = (each for each in result.warnings if each.code == "DP302")
    assert "on one GPU too" in finding.message


class MixingAndRaising(LlamaForCausalLM):
    """Mixes weights of two devices, and then raises whatever the map."""

    def forward(self, input_ids=None, **kwargs):
        self.model.layers[0].input_layernorm.weight + self.model.layers[-1].input_layernorm.weight
        raise RuntimeError("no kernel")


def test_what_raises_on_one_gpu_too_is_not_blamed_on_a_map_with_a_mismatch():
    result = devplan.check(llama(MixingAndRaising), MAP)
    assert set(codes(result)) == {"DP301"}
    assert all("on one GPU too" in f.message for f in result.warnings if f.code == "DP302")


@pytest.fixture(scope="module")
def vision_language(tmp_path_factory) -> str:
    vision = {
        "depth": 2,
        "embed_dim": 32,
        "num_heads": 2,
        "hidden_size": 64,
        "in_channels": 3,
        "patch_size": 14,
    }
    text = {k: v for k, v in SIZES.items() if k != "vocab_size"}
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    text |= {"vocab_size": 151_936, "rope_parameters": rope}
    config = Qwen2VLConfig(text_config=text, vision_config=vision)
    settings = config.to_dict()
    for name in ("model_type", "architectures", "dtype", "transformers_version"):
        settings.pop(name, None)
    folder = tmp_path_factory.mktemp("models") / "vl"
    return config_folder(folder, "Qwen2VLForConditionalGeneration", "qwen2_vl", **settings)


VL_MAP = {"model.visual": 0, "model.language_model": 0, "lm_head": 1}


def test_a_vision_language_model_is_run_with_text_alone_and_with_a_video(vision_language):
    result = devplan.check(vision_language, VL_MAP)
    assert codes(result) == [] and not result.missed
    assert [run.name for run in result.runs][:2] == ["generate", PADDED]
    assert {"text alone", "a video", BEAMS, LOSS} <= set(ran(result))
    contents = {run.name: run.inputs for run in result.runs}
    assert "image" in contents["generate"] and "video" in contents["a video"]
    assert contents["text alone"].startswith("text (")


def test_no_images_means_text_alone(vision_language):
    result = devplan.check(vision_language, VL_MAP, options=devplan.RunOptions(images=0))
    assert all(run.inputs.startswith("text (") for run in result.runs)
    assert "a video" not in ran(result)


def test_sounds_of_two_lengths_have_a_mask():
    """HubertForSequenceClassification pools with a mask that comes from the caller's: it is on the
    main device, the hidden states are where the projector left them."""
    config = HubertConfig(
        **{name: value for name, value in SIZES.items() if name not in ("num_key_value_heads",)},
        conv_dim=[16] * 7,
        classifier_proj_size=16,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    with torch.device("meta"):
        model = HubertForSequenceClassification(config)
    result = devplan.check(model, {"hubert": 0, "projector": 1, "classifier": 1})
    texts = [one.source.text for one in result.errors if one.source is not None]
    assert any("hidden_states.sum(dim=1) / padding_mask" in text for text in texts), texts
    assert ran(result)[PADDED] == ("forward",) and not result.missed
