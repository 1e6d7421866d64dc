"""Tiny models of real classes that fail for real: on cpu and meta, where every machine can."""

from __future__ import annotations

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

PLACES = ("model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head")
NUM_LAYERS = 4


def tiny_llama() -> LlamaForCausalLM:
    """Four layers, on the CPU."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def cpu_map() -> dict[str, str]:
    """An entry for every block."""
    layers = (f"model.layers.{index}" for index in range(NUM_LAYERS))
    return dict.fromkeys((*PLACES[:2], *layers, *PLACES[2:]), "cpu")


def without_norm(model: LlamaForCausalLM, layer: int = 2) -> LlamaForCausalLM:
    """The model with one norm on meta, as a weight that was never loaded: its layer fails."""
    model.hf_device_map = cpu_map()
    model.model.layers[layer].input_layernorm.to("meta")
    return model


def prompt(batch: int = 1, tokens: int = 7) -> torch.Tensor:
    """Token ids, [batch, tokens]."""
    return torch.arange(3, 3 + tokens).repeat(batch, 1)


class Adds(nn.Module):
    """A module whose code fails by itself, in a line of its own."""

    def __init__(self, device: str = "meta") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, device=device))
        self.register_buffer("table", torch.ones(3, device=device))
        self.kept = torch.ones(3, device=device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu() + self.weight
