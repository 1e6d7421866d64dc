"""Small checkpoints of the architectures of the catalogue, with everything but their size.

The configuration is that of the entry, hyperparameter by hyperparameter, with its widths, depths
and numbers of experts made small; what a class makes of it (norms, biases, ties, windows, latent
attention, towers) stays.  The vocabulary stays too, so that placeholder tokens mean what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
import transformers
from torch import nn

from devplan.catalog.models import CatalogModel
from devplan.inputs.example import example_inputs
from devplan.inputs.request import InputRequest

SMALL: Mapping[str, Any] = {
    "hidden_size": 64,
    "n_embed": 64,
    "d_model": 64,
    "intermediate_size": 128,
    "intermediate_size_mlp": 128,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 4,
    "n_layer": 4,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "max_window_layers": 4,
    "num_attention_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_kv_heads": 2,
    "head_dim": 16,
    "rotary_dim": 8,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "num_experts": 8,
    "num_local_experts": 8,
    "n_routed_experts": 8,
    "moe_num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_k": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "mrope_section": [2, 3, 3],
}
"""Of the whole model and of its text model."""
SMALL_TOWER: Mapping[str, Any] = {
    **SMALL,
    "hidden_size": 32,
    "embed_dim": 32,
    "intermediate_size": 64,
    "mlp_dim": 64,
    "depth": 4,
    "num_heads": 2,
    "out_hidden_size": 64,
    "fullatt_block_indexes": [1, 3],
    "deepstack_visual_indexes": [0, 1, 2],
    "projector_input_dim": 64,
    "projector_output_dim": 64,
    "vision_output_dim": 64,
}
SPECIAL: Mapping[str, Mapping[str, Any]] = {
    # The tower's hidden_size is that of the text, its own width is embed_dim.
    "Qwen2VLForConditionalGeneration": {"vision_config": {"hidden_size": 64}},
    # Two widths: of the experts for text and of those for images; halves of a head by section.
    "Ernie4_5_VLMoeForConditionalGeneration": {
        "text_config": {
            "moe_intermediate_size": [32, 16],
            "rope_scaling": {"rope_type": "default", "mrope_section": [3, 3, 2]},
        }
    },
    # Latent attention has as many heads of keys as of queries.
    "DeepseekV3ForCausalLM": {"num_key_value_heads": 4},
    # Images of a size that the number of their tokens is made for.
    "Gemma3ForConditionalGeneration": {
        "vision_config": {"image_size": 224},
        "mm_tokens_per_image": 16,
    },
}
"""What a class needs beside that."""


def tiny_config(entry: CatalogModel) -> dict[str, Any]:
    """The configuration of an entry, made small; not quantized."""
    config = _small(deepcopy(dict(entry.config)), SMALL)
    config.pop("quantization_config", None)
    return _merged(config, SPECIAL.get(entry.class_name, {}))


def _small(config: dict[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    made = {}
    for key, value in config.items():
        if isinstance(value, dict):
            made[key] = _small(value, SMALL_TOWER if key == "vision_config" else sizes)
        else:
            made[key] = sizes.get(key, value)
    return made


def _merged(config: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in more.items():
        config[key] = _merged(config.get(key, {}), value) if isinstance(value, Mapping) else value
    return config


def save_tiny(entry: CatalogModel, folder: str) -> nn.Module:
    """Make a checkpoint of the entry's class; gives the model that was saved."""
    model_class = getattr(transformers, entry.class_name)
    config = model_class.config_class.from_dict(tiny_config(entry))
    torch.manual_seed(0)
    model = model_class(config).eval().to(torch.float32)
    model.save_pretrained(folder, max_shard_size="20MB")
    return model


def inputs_of(model: nn.Module) -> dict[str, Any]:
    """Text, and an image or a sound where the model takes one, with values."""
    made = example_inputs(model, model.config, InputRequest(image_size=(56, 112)))
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(value.shape, generator=generator) if _is_empty(value) else value
        for name, value in made.kwargs.items()
    }


def _is_empty(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_meta
