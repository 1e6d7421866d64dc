from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    Blip2QFormerConfig,
    Blip2QFormerModel,
    PreTrainedConfig,
    TimeSeriesTransformerConfig,
    TimeSeriesTransformerModel,
)

from devplan.inputs.example import example_inputs
from devplan.inputs.request import InputRequest, NoExampleInputs
from tests.inputs.tiny import made_and_run, on_meta


def test_series_of_values():
    config = TimeSeriesTransformerConfig(
        prediction_length=4,
        context_length=8,
        lags_sequence=[1, 2],
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
    )
    example, _ = made_and_run(on_meta(TimeSeriesTransformerModel, config), batch=2)
    assert example.modalities == ("values",)
    assert example.kwargs["past_values"].shape == (2, 10)


@pytest.mark.parametrize("kind", ["packed", "video"])
def test_latents(kind):
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        if kind == "packed":
            model = diffusers.FluxTransformer2DModel(
                in_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=32,
                pooled_projection_dim=24,
                guidance_embeds=True,
                axes_dims_rope=(4, 4, 8),
            )
        else:
            model = diffusers.WanTransformer3DModel(
                in_channels=16,
                num_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                text_dim=32,
                ffn_dim=64,
                freq_dim=32,
            )
    example, _ = made_and_run(model.eval(), tokens=6)
    assert example.modalities == ("latents",) and not example.notes
    assert example.kwargs["hidden_states"].dim() == {"packed": 3, "video": 5}[kind]
    assert example.kwargs["encoder_hidden_states"].shape == (1, 6, 32)


def test_the_vectors_of_a_bridge_between_towers():
    config = Blip2QFormerConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    model = on_meta(Blip2QFormerModel, config)
    kwargs = example_inputs(model, config, InputRequest()).kwargs
    assert kwargs["query_embeds"].shape[-1] == 32
    assert kwargs["encoder_hidden_states"].shape[-1] == 1408


class Bridge(nn.Module):
    """Takes what only its signature tells of: vectors of two widths and a mark for each."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(24, 16)
        self.beside = nn.Conv1d(40, 16, 3)
        self.config = PreTrainedConfig()

    def forward(
        self,
        query_embeds: torch.Tensor,
        latents: torch.Tensor,
        kind_ids: torch.LongTensor,
        extra: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if extra is None:
            raise ValueError("extra must be given")
        kinds = nn.functional.one_hot(kind_ids, 16).sum(1)
        return self.into(query_embeds).sum(1) + self.beside(latents).sum(2) + kinds + extra.mean()


def test_required_arguments_are_offered_until_the_code_takes_them():
    with torch.device("meta"):
        model = Bridge()
    kwargs = example_inputs(model, model.config, InputRequest()).kwargs
    assert kwargs["query_embeds"].shape[-1] == 24
    assert kwargs["latents"].shape[1] == 40
    assert kwargs["kind_ids"].dtype == torch.int64
    assert "extra" in kwargs  # the error named it


def test_where_a_class_lies_changes_nothing(monkeypatch):
    """An environment in a folder called devplan: its code is no code of ours."""
    monkeypatch.setattr("devplan.inputs.probe.traceback.extract_tb", lambda traceback: [])
    with torch.device("meta"):
        model = Bridge()
    assert example_inputs(model, model.config, InputRequest()).kwargs["latents"].shape[1] == 40


class Hopeless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.config = PreTrainedConfig()

    def forward(self, session):
        return self.layer(session.frames)


def test_what_cannot_be_made_names_the_way_out():
    with torch.device("meta"):
        model = Hopeless()
    with pytest.raises(NoExampleInputs) as raised:
        example_inputs(model, model.config, InputRequest())
    assert "'session'" in str(raised.value)
    assert "--inputs file.py:function" in str(raised.value)


class Looker(nn.Module):
    """Takes patches of images, of a size that its configuration says wrongly."""

    def __init__(self, size) -> None:
        super().__init__()
        self.vision_tower = nn.Linear(12, 4)
        self.config = PreTrainedConfig(patch_size=size)

    def forward(self, pixel_values, image_grid_thw):
        return self.vision_tower(pixel_values)


@pytest.mark.parametrize("size", [0, "wide", {"height": None}])
def test_a_size_that_nothing_can_be_divided_by_is_a_reason_and_no_crash(size):
    with torch.device("meta"):
        model = Looker(size)
    with pytest.raises(NoExampleInputs, match="no example can be made from its configuration"):
        example_inputs(model, model.config, InputRequest())
