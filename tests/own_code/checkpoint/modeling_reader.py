"""A language model whose code comes with its checkpoint: layers, rotary table and cache its own.

The module ``backbone.rotary`` holds a buffer only, which no checkpoint stores.
"""

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_reader import ReaderConfig


class Rotary(nn.Module):
    def __init__(self, head_dim):
        super().__init__()
        steps = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
        self.register_buffer("inverse", 1.0 / 10000.0**steps, persistent=False)

    def forward(self, positions):
        angles = positions[..., None].float() * self.inverse  # [batch, seq, head_dim / 2]
        both = torch.cat((angles, angles), dim=-1)
        return both.cos(), both.sin()


def turned(states, cos, sin):
    left, right = states.chunk(2, dim=-1)
    other = torch.cat((-right, left), dim=-1)
    return (states * cos[:, None] + other * sin[:, None]).to(states.dtype)


class ReaderLayer(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        width = config.hidden_size
        self.index, self.heads = index, config.num_attention_heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, width)

    def forward(self, states, angles, cache):
        batch, length, width = states.shape
        qkv = self.qkv(self.norm_1(states)).view(batch, length, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        query, key = turned(query, *angles), turned(key, *angles)
        if cache is not None:
            key, value = cache.update(key, value, self.index)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=length > 1)
        states = states + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return states + self.down(nn.functional.gelu(self.up(self.norm_2(states))))


class ReaderPreTrainedModel(PreTrainedModel):
    config_class = ReaderConfig
    base_model_prefix = "backbone"
    _no_split_modules = ["ReaderLayer"]  # noqa: RUF012
    _supports_sdpa = True

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, Rotary):
            head_dim = 2 * module.inverse.numel()
            steps = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
            module.inverse.copy_(1.0 / 10000.0**steps)


class ReaderBackbone(ReaderPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.rotary = Rotary(config.hidden_size // config.num_attention_heads)
        layers = (ReaderLayer(config, index) for index in range(config.num_hidden_layers))
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()

    def get_input_embeddings(self):
        return self.words

    def forward(self, input_ids, cache):
        start = cache.get_seq_length() if cache is not None else 0
        positions = start + torch.arange(input_ids.shape[1], device=input_ids.device)
        states, angles = self.words(input_ids), self.rotary(positions[None])
        for layer in self.layers:
            states = layer(states, angles, cache)
        return self.norm(states)


class ReaderForCausalLM(ReaderPreTrainedModel, GenerationMixin):
    def __init__(self, config):
        super().__init__(config)
        self.backbone = ReaderBackbone(config)
        self.speak = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.backbone.words

    def get_output_embeddings(self):
        return self.speak

    def forward(self, input_ids, past_key_values=None, use_cache=True, **_):
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        states = self.backbone(input_ids, past_key_values if use_cache else None)
        return CausalLMOutputWithPast(logits=self.speak(states), past_key_values=past_key_values)
