from __future__ import annotations

import pytest
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForImageTextToText,
    CLIPConfig,
    CLIPModel,
    ViTConfig,
    ViTModel,
)

from tests.inputs.tiny import TEXT, made_and_run, made_and_watched, on_meta

_CLIP_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 56,
    "patch_size": 14,
}
_QWEN2_VL = {
    "text_config": {
        **TEXT,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [1, 1, 2],
        },
    },
    "vision_config": {"embed_dim": 32, "hidden_size": 32, "depth": 2, "num_heads": 4},
    "image_token_id": 100,
    "video_token_id": 101,
    "vision_start_token_id": 102,
    "vision_end_token_id": 103,
}
_QWEN3_VL = {
    **_QWEN2_VL,
    "text_config": {**_QWEN2_VL["text_config"], "head_dim": 8},
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "depth": 3,
        "num_heads": 4,
        "out_hidden_size": 32,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
    },
}
_LLAVA = {
    "text_config": {"model_type": "llama", **TEXT},
    "vision_config": {"model_type": "clip_vision_model", **_CLIP_VISION},
    "image_token_index": 100,
}
_SMOLVLM = {
    "text_config": {"model_type": "llama", **TEXT},
    "vision_config": {**_CLIP_VISION, "image_size": 64, "patch_size": 16},
    "image_token_id": 100,
    "scale_factor": 2,
}
_GEMMA3 = {
    "text_config": {**TEXT, "head_dim": 8, "sliding_window": 16},
    "vision_config": {**_CLIP_VISION, "model_type": "siglip_vision_model"},
    "mm_tokens_per_image": 4,
    "image_token_index": 100,
    "boi_token_index": 101,
    "eoi_token_index": 102,
}
_MLLAMA = {
    "text_config": {**TEXT, "cross_attention_layers": [1], "num_hidden_layers": 2},
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_global_layers": 1,
        "attention_heads": 4,
        "image_size": 56,
        "vision_output_dim": 96,
        "intermediate_layers_indices": [0, 1],
        "max_num_tiles": 4,
    },
    "image_token_index": 100,
}
_FUYU = {"text_config": {"model_type": "persimmon", **TEXT}, "hidden_size": 32, "patch_size": 30}
_FUYU = {**TEXT, **_FUYU, "image_token_id": 100}


def _model(model_type: str, content: dict):
    config = CONFIG_MAPPING[model_type](**content)
    return on_meta(AutoModelForImageTextToText._model_mapping[type(config)], config)


# Model type, configuration, tower, placeholders of one image.
_CASES = {
    "patches with a grid": ("qwen2_vl", _QWEN2_VL, "model.visual", 128),
    "deep-stack features": ("qwen3_vl", _QWEN3_VL, "model.visual", 84),
    "pixels": ("llava", _LLAVA, "model.vision_tower", 16),
    "pixels with a mask": ("smolvlm", _SMOLVLM, "model.vision_model", 4),
    "pooled to a fixed number": ("gemma3", _GEMMA3, "model.vision_tower", 4),
    "flattened patches": ("fuyu", _FUYU, "model.vision_embed_tokens", 84),
}


@pytest.mark.parametrize("case", _CASES)
def test_placeholders_are_as_many_as_features(case):
    model_type, content, tower, rows = _CASES[case]
    for images in (1, 2):
        model = _model(model_type, content)
        example, trace, calls = made_and_watched(
            model, tower, tokens=16, images=images, batch=2, padded=True
        )
        ids = example.kwargs["input_ids"]
        assert "image" in example.modalities and not example.notes
        assert (ids == 100).sum(-1).tolist() == [images * rows] * 2
        assert trace.output.logits.shape[:2] == ids.shape and calls > 0


def test_no_images_are_made_where_none_are_asked_for():
    example, _ = made_and_run(_model("llava", _LLAVA), images=0)
    assert example.modalities == ("text",)


@pytest.mark.parametrize(
    ("model_type", "content"), [("qwen2_vl", _QWEN2_VL), ("qwen3_vl", _QWEN3_VL)]
)
def test_videos_in_one_run_and_frame_by_frame(model_type, content):
    model = _model(model_type, content)
    example, _ = made_and_run(model, tokens=16, images=0, videos=1, frames=4)
    grid = example.kwargs["video_grid_thw"]
    assert example.modalities == ("text", "video") and grid[0, 0] == 2
    assert (example.kwargs["input_ids"] == 101).sum() == grid.prod() // 4


def test_images_beside_the_text_take_one_token():
    example, _ = made_and_run(_model("mllama", _MLLAMA), tokens=16)
    assert (example.kwargs["input_ids"] == 100).sum() == 1
    assert example.kwargs["cross_attention_mask"].shape == (1, 17, 1, 4)
    assert example.kwargs["pixel_values"].shape == (1, 1, 4, 3, 56, 56)


def test_text_and_image_without_placeholders():
    text = {**TEXT, "max_position_embeddings": 77}
    model = on_meta(CLIPModel, CLIPConfig(text_config=text, vision_config=_CLIP_VISION))
    example, trace = made_and_run(model, tokens=16)
    assert example.modalities == ("text", "image")
    assert trace.output.logits_per_image.shape == (1, 1)


def test_pixels_alone():
    example, _ = made_and_run(on_meta(ViTModel, ViTConfig(**_CLIP_VISION)), batch=3)
    assert example.kwargs["pixel_values"].shape == (3, 3, 56, 56)
    assert example.kwargs["pixel_values"].device.type == "meta"


class _UnheardOf(torch.nn.Module):
    """A user's own model: nothing but names of arguments and settings to go by."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import PretrainedConfig

        self.config = PretrainedConfig()
        self.config.image_token_id = 7
        self.config.image_size = 32
        self.eye = torch.nn.Conv2d(3, 24, 8, 8)
        self.bridge = torch.nn.Linear(24, 16)
        self.words = torch.nn.Embedding(50, 16)
        self.text = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([self._layer()])})

    @staticmethod
    def _layer() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.GELU())

    def get_input_embeddings(self):
        return self.words

    def forward(self, input_ids, pixel_values=None):
        if pixel_values is None:
            return self.text["layers"][0](self.words(input_ids))
        seen = self.bridge(self.eye(pixel_values).flatten(2).mT)
        words = self.words(input_ids)
        mask = (input_ids == self.config.image_token_id).unsqueeze(-1).expand_as(words)
        if int(mask.sum()) != seen.numel():
            raise ValueError("placeholders and features differ")
        return self.text["layers"][0](words.masked_scatter(mask, seen))


def test_a_model_of_no_known_type():
    with torch.device("meta"):
        model = _UnheardOf()
    example, trace = made_and_run(model, tokens=8, images=2)
    assert (example.kwargs["input_ids"] == 7).sum() == 2 * 16
    assert trace.output.shape == (1, 8 + 32, 16)


def test_a_placeholder_without_a_name_is_said():
    with torch.device("meta"):
        model = _UnheardOf()
    model.config.image_token_id = None
    example, _ = made_and_run(model, tokens=8)
    assert example.modalities == ("text",)
    assert [note.partition(":")[0] for note in example.notes] == ["image"]
    assert "AttributeError: 'bool' object" in example.notes[0]  # ids == None in the model's code
