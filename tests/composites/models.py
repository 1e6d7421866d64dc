"""Models of several parts, at the default configuration of their class (`tools.sweep.usable`).

Sizes are those of the class, which for many types are those of a published model; where a type is
small by default, that of a larger one is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoConfig, VisionEncoderDecoderConfig

from tools.sweep.universe import model_classes
from tools.sweep.usable import usable_config


@dataclass(frozen=True, kw_only=True)
class Composite:
    """One row: a class, how it is configured, and what a run with devplan's own inputs shows."""

    model_type: str
    class_name: str | None = None
    """None: the most complete one of the type."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    context: int = 512
    ran: str = "prefill, decode 1, decode 2"
    """Phases of the run."""
    not_run: tuple[str, ...] = ()
    """Modules that it does not reach, as far as they are named."""
    in_time: bool = False
    """Whether it belongs to the default suite."""

    @property
    def id(self) -> str:
        return self.class_name or model_classes()[self.model_type]


_LARGE_SPEECHT5 = {
    "hidden_size": 1280,
    "encoder_layers": 32,
    "decoder_layers": 24,
    "encoder_attention_heads": 20,
    "decoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "decoder_ffn_dim": 5120,
}
_LARGE_T5 = {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
_LARGE_MOONSHINE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "encoder_num_hidden_layers": 16,
    "decoder_num_hidden_layers": 16,
    "encoder_num_attention_heads": 16,
    "decoder_num_attention_heads": 16,
    "encoder_num_key_value_heads": 16,
    "decoder_num_key_value_heads": 16,
}
_THINKER = "thinker prefill, thinker decode 1, thinker decode 2"

COMPOSITES = (
    # text to text
    Composite(model_type="bart", in_time=True),
    Composite(model_type="mbart"),
    Composite(model_type="pegasus", in_time=True),
    Composite(model_type="led"),
    Composite(model_type="umt5", settings=_LARGE_T5),
    Composite(model_type="switch_transformers"),
    Composite(model_type="nllb-moe"),
    # speech
    Composite(model_type="moonshine", settings=_LARGE_MOONSHINE, in_time=True),
    Composite(model_type="speecht5", settings=_LARGE_SPEECHT5, context=256),
    Composite(
        model_type="speecht5",
        class_name="SpeechT5ForSpeechToSpeech",
        settings=_LARGE_SPEECHT5,
        context=256,
        ran="forward",
    ),
    Composite(model_type="seamless_m4t_v2"),
    Composite(
        model_type="seamless_m4t_v2",
        class_name="SeamlessM4Tv2Model",
        ran="forward",
        not_run=("t2u_model", "vocoder"),
    ),
    # Its weights are read without its forward.
    Composite(model_type="qwen2_audio", not_run=("model.audio_tower.embed_positions",)),
    Composite(model_type="voxtral", not_run=("model.audio_tower.embed_positions",)),
    Composite(
        model_type="bark",
        ran="semantic prefill",
        not_run=("coarse_acoustics", "fine_acoustics"),
        in_time=True,
    ),
    Composite(
        model_type="musicgen",
        ran="prefill, decode 1, decode 2, decode 3",
        not_run=("audio_encoder.encoder", "audio_encoder.quantizer"),
    ),
    Composite(
        model_type="csm", ran="prefill", not_run=("codec_model.decoder", "codec_model.quantizer")
    ),
    Composite(model_type="dia"),
    # pictures
    Composite(model_type="florence2", in_time=True),
    Composite(model_type="vision-encoder-decoder"),
    Composite(model_type="trocr", in_time=True),
    Composite(model_type="kosmos-2", ran="generate"),
    Composite(model_type="blip-2", ran="generate", in_time=True),
    Composite(model_type="instructblip", ran="generate"),
    Composite(model_type="idefics3"),
    Composite(model_type="janus", not_run=("model.vqmodel",)),
    Composite(model_type="emu3", not_run=("model.vqmodel.decoder",)),
    Composite(model_type="chameleon", not_run=("model.vqmodel.post_quant_conv",)),
    Composite(model_type="colqwen2", ran="forward"),
    Composite(model_type="mllama"),
    # all of these at a time
    Composite(model_type="qwen2_5_omni_thinker"),
    Composite(model_type="qwen2_5_omni", ran=_THINKER, not_run=("talker", "token2wav")),
    Composite(model_type="qwen3_omni_moe_thinker"),
    Composite(model_type="qwen3_omni_moe", ran=_THINKER, not_run=("talker", "code2wav")),
)


def save_config(composite: Composite, folder: Path) -> str:
    """The folder with the configuration of a row, without weights."""
    config = _donut() if composite.model_type == "vision-encoder-decoder" else None
    config = config or usable_config(composite.model_type)
    for name, value in composite.settings.items():
        setattr(config, name, value)
    config.architectures = [composite.id]
    config.save_pretrained(folder)
    return str(folder)


def _donut() -> Any:
    """A page at the size that documents are read at, and a decoder as deep as the default one."""
    encoder = AutoConfig.for_model(
        "donut-swin",
        image_size=[1280, 960],
        depths=[2, 2, 14, 2],
        num_heads=[4, 8, 16, 32],
        embed_dim=128,
        window_size=10,
    )
    decoder = AutoConfig.for_model("mbart", is_decoder=True, add_cross_attention=True)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id = 0, 1
    return config
