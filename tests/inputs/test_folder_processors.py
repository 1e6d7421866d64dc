from __future__ import annotations

import numpy as np
import pytest
from transformers import (
    CLIPImageProcessor,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    WhisperFeatureExtractor,
)

from devplan.inputs.example import example_inputs
from devplan.inputs.request import InputRequest
from tests.inputs.test_images import _LLAVA
from tests.inputs.tiny import TEXT, on_meta

_TEMPLATE = (
    "{% for message in messages %}user {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}bot"
)


@pytest.fixture
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<pad>": 0, "<unk>": 1, "the": 3, "user": 4, "bot": 5, "<image>": 100}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )


@pytest.fixture
def llava():
    return on_meta(LlavaForConditionalGeneration, LlavaConfig(**_LLAVA))


def test_image_through_the_chat_template(tokenizer, llava, tmp_path):
    pytest.importorskip("PIL")
    size = {"height": 56, "width": 56}
    pictures = CLIPImageProcessor(size=size, crop_size=size)
    LlavaProcessor(
        pictures,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_TEMPLATE,
    ).save_pretrained(tmp_path)
    request = InputRequest(tokens=12, images=2, batch=2, padded=True)
    example = example_inputs(llava, llava.config, request, folder=tmp_path)
    assert example.source == "processor of the folder", example.notes
    assert example.modalities == ("text", "image")
    ids = example.kwargs["input_ids"]
    assert (ids == 100).sum(-1).tolist() == [32, 32]
    assert (ids == 4).any() and (ids == 5).any()  # the template's own words
    assert example.kwargs["attention_mask"][0, :3].tolist() == [0, 0, 0]
    pixels = example.kwargs["pixel_values"]
    assert pixels.shape == (4, 3, 56, 56) and pixels.device.type == "meta"
    assert pixels.dtype == llava.dtype


def test_a_tokenizer_alone(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    model = on_meta(LlamaForCausalLM, LlamaConfig(**TEXT))
    example = example_inputs(model, model.config, InputRequest(tokens=9), folder=tmp_path)
    assert example.source == "processor of the folder", example.notes
    assert example.kwargs["input_ids"].tolist() == [[3] * 9]


def test_rows_after_the_first_are_made_once(tokenizer, tmp_path, monkeypatch):
    """A batch of 50,000 costs the tokenizer two rows."""
    tokenizer.save_pretrained(tmp_path)
    model = on_meta(LlamaForCausalLM, LlamaConfig(**TEXT))
    rows = []
    original = PreTrainedTokenizerFast.__call__

    def counted(self, text, **options):
        rows.append(len(text))
        return original(self, text, **options)

    monkeypatch.setattr(PreTrainedTokenizerFast, "__call__", counted)
    request = InputRequest(tokens=8, batch=50_000, padded=True)
    made = example_inputs(model, model.config, request, folder=tmp_path).kwargs
    assert max(rows) == 2
    assert made["input_ids"].shape == made["attention_mask"].shape == (50_000, 8)
    assert made["attention_mask"].sum(-1).tolist() == [6] + [8] * 49_999


def test_a_feature_extractor_alone(tmp_path):
    from tests.inputs.test_sounds import whisper

    WhisperFeatureExtractor(feature_size=20, chunk_length=2).save_pretrained(tmp_path)
    model = whisper()
    example = example_inputs(model, model.config, InputRequest(), folder=tmp_path)
    assert example.source == "processor of the folder", example.notes
    assert example.modalities == ("audio", "decoder text")
    assert example.kwargs["input_features"].shape == (1, 20, 200)


def test_an_unreadable_processor_is_said_and_replaced(llava, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text("{")
    example = example_inputs(llava, llava.config, InputRequest(), folder=tmp_path)
    assert example.source == "configuration" and "image" in example.modalities
    assert example.notes[0].startswith("inputs were made from the configuration: ")


def test_a_folder_without_a_processor(llava, tmp_path):
    example = example_inputs(llava, llava.config, InputRequest(), folder=tmp_path)
    assert "has no processor" in example.notes[0]
    assert not any(isinstance(value, np.ndarray) for value in example.kwargs.values())
