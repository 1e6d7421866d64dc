"""Tiny models of real classes that fail for real: on cpu and meta, where every machine can."""

from __future__ import annotations

import torch
import yaml
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from tests.checks.case import HERE, model_name

SPLIT_LAYER = HERE / "cases" / "DP202_split_layer" / "map.yaml"

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


def split_biogpt() -> nn.Module:
    """BioGPT with accelerate's hooks, split inside a residual connection: cpu and meta."""
    from accelerate import dispatch_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model_name("tiny_biogpt"))
    model = AutoModelForCausalLM.from_config(config).eval().float()
    given = yaml.safe_load(SPLIT_LAYER.read_text())
    places = {name: "cpu" if card == 0 else "meta" for name, card in given.items()}
    return dispatch_model(model, places, main_device="cpu", force_hooks=True)


class Layer(nn.Module):
    """A layer of a stack."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.linear(hidden)


class Masks(nn.Module):
    """A model whose code between the blocks joins ids and embeddings, as many do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, 4)
        self.layers = nn.ModuleList(Layer() for _ in range(2))

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(input_ids)
        keep = input_ids.ne(0).unsqueeze(-1)
        hidden = hidden.sigmoid() + keep
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


def masks_with_embedding_away() -> Masks:
    """The embedding on meta, everything else on the CPU, with accelerate's hooks."""
    from accelerate import dispatch_model

    places = {"embed": "meta", "layers": "cpu"}
    return dispatch_model(Masks().eval(), places, main_device="cpu", force_hooks=True)


class Fills(nn.Module):
    """A module that needs more than there is."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.error is not None:
            raise self.error
        return x * torch.empty(10**15)
