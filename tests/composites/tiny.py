"""Small checkpoints of models of several parts, with real, seeded weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

_TEXT = dict(
    vocab_size=200,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
)
_SEQ = dict(
    vocab_size=200,
    d_model=32,
    encoder_layers=3,
    decoder_layers=3,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=48,
    decoder_ffn_dim=48,
    max_position_embeddings=256,
)
_TOWER = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    image_size=28,
    patch_size=14,
)
SPEAKER = "Chelsie"
_MEL = 80


def bart() -> nn.Module:
    return _seeded("BartForConditionalGeneration", **_SEQ)


def blip2() -> nn.Module:
    return _seeded(
        "Blip2ForConditionalGeneration",
        vision_config=_TOWER,
        qformer_config={
            **{name: _TOWER[name] for name in ("hidden_size", "intermediate_size")},
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "encoder_hidden_size": 32,
            "vocab_size": 30,
        },
        text_config={
            "model_type": "opt",
            "vocab_size": 200,
            "hidden_size": 32,
            "word_embed_proj_dim": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
        },
        num_query_tokens=4,
        image_token_index=190,
    )


def seamless() -> nn.Module:
    return _seeded(
        "SeamlessM4Tv2Model",
        vocab_size=200,
        t2u_vocab_size=60,
        char_vocab_size=60,
        hidden_size=32,
        encoder_layers=3,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        speech_encoder_layers=2,
        speech_encoder_attention_heads=4,
        speech_encoder_intermediate_size=48,
        t2u_encoder_layers=2,
        t2u_decoder_layers=2,
        t2u_encoder_attention_heads=4,
        t2u_decoder_attention_heads=4,
        t2u_encoder_ffn_dim=48,
        t2u_decoder_ffn_dim=48,
        unit_embed_dim=32,
        lang_embed_dim=16,
        spkr_embed_dim=16,
        upsample_initial_channel=32,
        unit_hifi_gan_vocab_size=60,
        max_position_embeddings=256,
    )


def omni() -> nn.Module:
    """Thinker, talker and vocoder; widths of text and talker differ."""
    talker = {**_TEXT, "hidden_size": 16, "vocab_size": 120, "head_dim": 8}
    tokens = dict(
        audio_token_index=190,
        image_token_index=191,
        video_token_index=192,
        vision_start_token_id=193,
        vision_end_token_id=194,
        audio_start_token_id=195,
        audio_end_token_id=196,
    )
    return _seeded(
        "Qwen2_5OmniForConditionalGeneration",
        thinker_config={
            **tokens,
            "text_config": _TEXT,
            "audio_config": dict(
                d_model=32,
                encoder_layers=2,
                encoder_attention_heads=4,
                encoder_ffn_dim=48,
                output_dim=32,
            ),
            "vision_config": dict(
                depth=2, hidden_size=32, intermediate_size=48, num_heads=4, out_hidden_size=32
            ),
        },
        talker_config={
            **tokens,
            **talker,
            "embedding_size": 32,
            "tts_codec_start_token_id": 100,
            "tts_codec_end_token_id": 101,
            "tts_codec_pad_token_id": 102,
            "tts_codec_mask_token_id": 103,
            "tts_text_start_token_id": 197,
            "tts_text_end_token_id": 198,
            "tts_text_pad_token_id": 199,
        },
        token2wav_config={
            "dit_config": dict(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                head_dim=8,
                emb_dim=32,
                num_embeds=120,
                enc_dim=16,
                enc_emb_dim=16,
                enc_channels=[16, 16, 16, 16, 48],
                enc_attention_channels=8,
                enc_se_channels=8,
                enc_res2net_scale=2,
            ),
            "bigvgan_config": dict(upsample_initial_channel=64),
        },
    )


def voices(model: nn.Module) -> dict[str, Any]:
    """The dictionary of speakers that a checkpoint of Qwen2.5-Omni comes with."""
    generator = torch.Generator().manual_seed(2)
    width = model.config.token2wav_config.dit_config.enc_emb_dim
    voice = {
        "bos_token": 197,
        "cond": torch.randn(1, width, generator=generator),
        "ref_mel": torch.randn(1, 40, _MEL, generator=generator),
    }
    return {SPEAKER: voice}


MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "bart": bart,
    "blip-2": blip2,
    "seamless": seamless,
    "omni": omni,
}


def save(name: str, folder: Path) -> nn.Module:
    """The checkpoint as ``save_pretrained`` writes it; gives the model that was saved."""
    model = MODELS[name]()
    model.save_pretrained(folder)
    if name == "omni":
        torch.save(voices(model), folder / "spk_dict.pt")
        model.load_speakers(folder / "spk_dict.pt")
    return model


def _seeded(class_name: str, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    model_class = getattr(transformers, class_name)
    special = dict(pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2)
    named = special if "vocab_size" in settings else {}
    return model_class(model_class.config_class(**{**named, **settings})).eval().float()
