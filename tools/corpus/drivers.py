"""What a user writes where plain `generate` does not reach a bug: models, inputs and runs.

Each function is named in ``bugs.yaml`` as ``drivers.py:function`` and handed to devplan as any
user's function is.
"""

from __future__ import annotations

import torch
from torch import nn


def decode_codes(model, inputs):
    """Sound from codes; a codec's ``decode`` is a method and no ``forward``."""
    device = next(iter(inputs.values())).device
    codes = torch.zeros(1, 4, 50, dtype=torch.long, device=device)
    return model.decode(codes)


class Pair(nn.Module):
    """Two models on two cards, of which one foretells what the other will say."""

    def __init__(self):
        super().__init__()
        self.target, self.assistant = _llama(layers=4), _llama(layers=2)

    def forward(self, input_ids):
        return self.target(input_ids)


def _llama(layers):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


def target_and_assistant():
    """The model of `assisted`."""
    return Pair()


def prompt():
    """Sixteen tokens."""
    return {"input_ids": torch.ones(1, 16, dtype=torch.long)}


def assisted(model, inputs):
    """Assisted generation."""
    ids = inputs["input_ids"]
    return model.target.generate(
        ids, assistant_model=model.assistant, max_new_tokens=8, do_sample=False
    )


def beams(model, inputs):
    """Beam search as any encoder-decoder does it, without what a speech model adds around it."""
    from transformers import GenerationMixin

    return GenerationMixin.generate(
        model, **inputs, num_beams=2, max_new_tokens=3, begin_suppress_tokens=[220, 50256]
    )


def one_token_an_image(model, config):
    """Two sequences, padded on the left, with a placeholder an image, as processors once wrote."""
    ids = torch.full((2, 12), 5, dtype=torch.long)
    ids[:, 4] = config.image_token_index
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "pixel_values": torch.zeros(2, 5, 3, 336, 336),
        "image_sizes": torch.tensor([[336, 672], [336, 672]]),
    }


def speak(model, inputs):
    """Text and speech, as Qwen2.5-Omni generates them with one of its speakers."""
    model.speaker_map = {
        "Chelsie": {
            "bos_token": 151672,
            "cond": torch.zeros(1, 192),
            "ref_mel": torch.zeros(1, 300, 80),
        }
    }
    return model.generate(
        **inputs,
        return_audio=True,
        thinker_max_new_tokens=3,
        talker_max_new_tokens=3,
        talker_do_sample=False,
    )


def video_and_text():
    """Four frames and sixteen tokens."""
    return {
        "input_ids": torch.ones(1, 16, dtype=torch.long),
        "pixel_values_videos": torch.zeros(1, 4, 3, 336, 336),
    }
