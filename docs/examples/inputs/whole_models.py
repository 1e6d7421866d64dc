"""Inputs with which models of several parts run to the end: ``--inputs whole_models.py:spoken``.

Each function sets on the model, which has no weights, what only a checkpoint has: a voice, tables
of languages, settings of generation.
"""

from __future__ import annotations

from typing import Any

import torch

LANGUAGES = ("text_decoder_lang_to_code_id", "t2u_lang_code_to_id", "vocoder_lang_code_to_id")


def text(length: int) -> dict[str, Any]:
    ids = torch.full((1, length), 100)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def spoken(model: Any, config: Any) -> dict[str, Any]:
    """Qwen2.5-Omni answers in words and in sound, with two steps of diffusion, which are alike."""
    dit = config.token2wav_config.dit_config
    model.speaker_map["Chelsie"] = {
        "bos_token": 151672,
        "cond": torch.empty(1, dit.enc_emb_dim, device="meta"),
        "ref_mel": torch.empty(1, 300, dit.mel_dim, device="meta"),
    }
    return {**text(256), "token2wav_num_steps": 2}


def translated(model: Any, config: Any) -> dict[str, Any]:
    """SeamlessM4T v2 translates text to speech."""
    generation = model.generation_config
    for name in LANGUAGES:
        setattr(generation, name, {"eng": 3})
    generation.id_to_text = {str(token): "a" for token in range(config.vocab_size)}
    generation.char_to_id = {"a": 5}
    generation.pad_token_id = 1  # not 0, which stands for the tokens that a run makes up
    return {**text(64), "tgt_lang": "eng", "max_new_tokens": 8}


def sound(model: Any, config: Any) -> dict[str, Any]:
    """Bark: semantic, coarse and fine tokens, then the codec."""
    from transformers.models.bark.generation_configuration_bark import BarkGenerationConfig

    generation = BarkGenerationConfig()
    parts = ("semantic_config", "coarse_acoustics_config", "fine_acoustics_config")
    for name in parts:
        setattr(generation, name, {})
    model.generation_config = generation
    return text(256)
