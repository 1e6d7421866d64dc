from __future__ import annotations

import pytest
import torch
from transformers import (
    Blip2QFormerConfig,
    Blip2QFormerModel,
    TimeSeriesTransformerConfig,
    TimeSeriesTransformerModel,
)

from devplan.inputs import InputRequest, NoExampleInputs, example_inputs
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


def test_what_cannot_be_made_names_the_way_out():
    config = Blip2QFormerConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    model = on_meta(Blip2QFormerModel, config)
    with pytest.raises(NoExampleInputs) as raised:
        example_inputs(model, config, InputRequest())
    assert "'query_embeds'" in str(raised.value)
    assert "--inputs file.py:function" in str(raised.value)
