"""Tiny models with real, seeded weights of many types, and inputs with real values.

Every entry is ``model type: settings``; sizes are small enough that each value is kept for real.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import CONFIG_MAPPING

from devplan.inputs.example import example_inputs
from devplan.inputs.request import InputRequest
from devplan.inputs.text import plain_id, special_ids
from devplan.models.blocks import BlockSite, partition
from devplan.models.build import declared_no_split
from devplan.virtual.patches import VirtualCard
from devplan.virtual.run import SplitModel
from tests.profile import twins
from tools.sweep.universe import model_classes

TEXT = {**twins.TEXT, "num_hidden_layers": 4, "bos_token_id": 1, "eos_token_id": 2}
MHA = {**TEXT, "num_key_value_heads": 4}
HEAD = {**TEXT, "head_dim": 8}
BERT = dict(
    vocab_size=99, hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
    intermediate_size=48, max_position_embeddings=128, pad_token_id=0,
)  # fmt: skip
VIT = dict(
    hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48,
    image_size=32, patch_size=8,
)  # fmt: skip
SEQ = dict(
    vocab_size=99, d_model=32, encoder_layers=3, decoder_layers=3, encoder_attention_heads=4,
    decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48,
    max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    decoder_start_token_id=2,
)  # fmt: skip
SPEECH = dict(
    hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
    conv_dim=[16] * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, vocab_size=32,
)  # fmt: skip
EXPERTS = twins.EXPERTS
MLA = dict(twins.CASES)["deepseek_v3"]
ROPE_VL = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
QWEN_IDS = dict(
    image_token_id=90, video_token_id=91, vision_start_token_id=92, vision_end_token_id=93
)
QWEN2_TOWER = dict(embed_dim=32, hidden_size=32, depth=2, num_heads=4)
QWEN3_TOWER = dict(
    hidden_size=32, intermediate_size=64, depth=3, num_heads=4, out_hidden_size=32,
    num_position_embeddings=64, deepstack_visual_indexes=[0, 1],
)  # fmt: skip
CLIP = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
    image_size=56, patch_size=14,
)  # fmt: skip
LLAMA = {"model_type": "llama", **MHA}
RESNET = {
    "use_timm_backbone": False,
    "backbone": None,
    "use_pretrained_backbone": False,
    "backbone_config": {
        "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 12, 16, 24],
        "depths": [1, 1, 1, 1], "layer_type": "basic",
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
}  # fmt: skip
DETR = dict(
    d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
    decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, num_queries=5,
)  # fmt: skip
TWO_TOWERS = dict(
    text_config={**BERT, "bos_token_id": 1, "eos_token_id": 2}, vision_config=CLIP,
    projection_dim=16,
)  # fmt: skip

TINY: dict[str, dict[str, dict[str, Any]]] = {
    "decoders": {
        **dict(twins.CASES),
        "qwen3": HEAD,
        "phi": MHA,
        "phi3": MHA,
        "gemma": HEAD,
        "stablelm": MHA,
        "olmo": MHA,
        "olmo2": MHA,
        "cohere": TEXT,
        "cohere2": HEAD,
        "granite": TEXT,
        "starcoder2": TEXT,
        "gpt_neox": MHA,
        "gptj": dict(vocab_size=99, n_embd=32, n_layer=3, n_head=4, n_positions=128, rotary_dim=4),
        "opt": dict(vocab_size=99, hidden_size=32, ffn_dim=48, num_hidden_layers=3,
            num_attention_heads=4, max_position_embeddings=128, word_embed_proj_dim=32),
        "mpt": dict(vocab_size=99, d_model=32, n_heads=4, n_layers=3, max_seq_len=128),
        "glm": {**HEAD, "partial_rotary_factor": 0.5},
        "glm4": {**HEAD, "partial_rotary_factor": 0.5},
        "nemotron": TEXT,
        "persimmon": MHA,
        "smollm3": TEXT,
        "ernie4_5": HEAD,
        "exaone4": {**HEAD, "sliding_window": 16},
        "helium": HEAD,
        "codegen": dict(vocab_size=99, n_embd=32, n_layer=3, n_head=4, n_positions=128,
            rotary_dim=4),
        "gpt_neo": dict(vocab_size=99, hidden_size=32, num_layers=2, num_heads=4,
            attention_types=[[["global", "local"], 1]], max_position_embeddings=128),
    },
    "experts": {
        "qwen2_moe": {**TEXT, **EXPERTS, "shared_expert_intermediate_size": 16},
        "qwen3_moe": {**HEAD, **EXPERTS},
        "olmoe": {**MHA, "num_experts": 4, "num_experts_per_tok": 2},
        "phimoe": {**TEXT, "num_local_experts": 4},
        "granitemoe": {**TEXT, "num_local_experts": 4},
        "deepseek_v2": {**MLA, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
        "granitemoehybrid": {**TEXT, **twins.MAMBA2, "mamba_chunk_size": 16, "num_local_experts": 4,
            "num_experts_per_tok": 2, "shared_intermediate_size": 16,
            "layer_types": ["mamba", "attention"] * 2},
        "lfm2_moe": {**TEXT, **EXPERTS, "num_dense_layers": 1,
            "layer_types": ["conv", "full_attention"] * 2},
        "ernie4_5_moe": {**TEXT, "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16,
            "moe_layer_start_index": 1, "moe_layer_end_index": 3},
        "jetmoe": dict(vocab_size=99, hidden_size=32, num_hidden_layers=3, num_key_value_heads=2,
            kv_channels=8, intermediate_size=48, num_local_experts=4, max_position_embeddings=128),
        "dots1": {**HEAD, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
            "topk_group": 1, "moe_intermediate_size": 16, "n_shared_experts": 1},
        "glm4_moe": {**HEAD, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
            "topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1,
            "partial_rotary_factor": 0.5},
        "switch_transformers": dict(vocab_size=99, d_model=32, d_kv=8, d_ff=48, num_layers=4,
            num_heads=4, num_experts=4, decoder_start_token_id=0),
    },
    "encoders": {
        "bert": BERT, "roberta": BERT, "electra": {**BERT, "embedding_size": 32},
        "distilbert": dict(vocab_size=99, dim=32, n_layers=3, n_heads=4, hidden_dim=48,
            max_position_embeddings=128),
        "albert": {**BERT, "embedding_size": 16},
        "deberta-v2": BERT,
        "mpnet": BERT,
        "modernbert": {**BERT, "global_attn_every_n_layers": 2, "local_attention": 8,
            "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
        "esm": {**BERT, "mask_token_id": 32},
    },
    "encoders and decoders": {
        "t5": {**dict(twins.CASES)["t5"], "decoder_start_token_id": 0},
        "mbart": SEQ, "pegasus": SEQ, "marian": SEQ,
        "m2m_100": SEQ, "blenderbot": SEQ, "prophetnet": dict(vocab_size=99, hidden_size=32,
            num_encoder_layers=2, num_decoder_layers=2, num_encoder_attention_heads=4,
            num_decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48),
        "mt5": dict(vocab_size=99, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4),
        "longt5": dict(vocab_size=99, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4,
            local_radius=4, decoder_start_token_id=0),
    },
    "pictures": {
        "vit": VIT, "deit": VIT, "beit": VIT, "dinov2": VIT,
        "convnext": dict(hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 2, 1], image_size=32),
        "swin": dict(embed_dim=8, depths=[1, 1], num_heads=[2, 4], image_size=32, window_size=4),
        "resnet": dict(embedding_size=8, hidden_sizes=[8, 12], depths=[2, 2], layer_type="basic"),
        "segformer": dict(hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, num_attention_heads=[1, 1, 2,
            2], decoder_hidden_size=16),
        "dpt": {**VIT, "neck_hidden_sizes": [8, 8, 8, 8], "fusion_hidden_size": 8,
            "backbone_out_indices": [0, 1, 2, 3]},
    },
    "detection": {
        "yolos": {**VIT, "image_size": [32, 32], "num_detection_tokens": 5},
        "detr": {**DETR, **RESNET},
        "conditional_detr": {**DETR, **RESNET},
        "deformable_detr": {**DETR, **RESNET, "encoder_n_points": 2, "decoder_n_points": 2},
        "table-transformer": {**DETR, **RESNET},
        "dab-detr": {**DETR, "hidden_size": 32, **RESNET},
        "rt_detr": {**DETR, "encoder_hidden_dim": 32, "encoder_in_channels": [12, 16, 24],
            "feat_strides": [8, 16, 32], "num_feature_levels": 3, "encoder_ffn_dim": 48,
            "decoder_in_channels": [32, 32, 32], "decoder_n_points": 2, "num_queries": 20,
            "decoder_attention_heads": 4, "anchor_image_size": None, "backbone_config":
            {"model_type": "rt_detr_resnet", "embedding_size": 8, "hidden_sizes": [8, 12, 16, 24],
            "depths": [1, 1, 1, 1], "layer_type": "basic",
            "out_features": ["stage2", "stage3", "stage4"]}},
    },
    "pictures and text": {
        "clip": TWO_TOWERS, "siglip": dict(text_config={**BERT, "projection_size": 32},
            vision_config=CLIP),
        "llava": dict(text_config=LLAMA, vision_config={"model_type": "clip_vision_model", **CLIP},
            image_token_index=90),
        "qwen2_vl": dict(text_config={**TEXT, "rope_parameters": ROPE_VL},
            vision_config=QWEN2_TOWER, **QWEN_IDS),
        "qwen3_vl": dict(text_config={**HEAD, "rope_parameters": ROPE_VL},
            vision_config=QWEN3_TOWER, **QWEN_IDS),
        "smolvlm": dict(text_config=LLAMA, vision_config={**CLIP, "image_size": 64,
            "patch_size": 16}, image_token_id=90, scale_factor=2),
        "gemma3": dict(text_config={**HEAD, "sliding_window": 16}, vision_config={**CLIP,
            "model_type": "siglip_vision_model"}, mm_tokens_per_image=4, image_token_index=90,
            boi_token_index=91, eoi_token_index=92),
        "paligemma": dict(text_config={"model_type": "gemma", **HEAD}, vision_config={**CLIP,
            "model_type": "siglip_vision_model", "projection_dim": 32}, image_token_index=90,
            projection_dim=32, hidden_size=32),
        "qwen2_5_vl": dict(text_config={**TEXT, "rope_parameters": ROPE_VL}, vision_config=dict(
            hidden_size=32, out_hidden_size=32, intermediate_size=48, depth=3, num_heads=4,
            fullatt_block_indexes=[1], window_size=56), **QWEN_IDS),
        "idefics3": dict(text_config=LLAMA, vision_config={**CLIP, "image_size": 64,
            "patch_size": 16}, image_token_id=90, scale_factor=2),
        "mllama": dict(text_config={**TEXT, "cross_attention_layers": [1, 3]}, vision_config=dict(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_global_layers=1,
            attention_heads=4, image_size=56, vision_output_dim=96,
            intermediate_layers_indices=[0, 1], max_num_tiles=4), image_token_index=90),
        "internvl": dict(text_config={"model_type": "qwen2", **TEXT}, vision_config={**CLIP,
            "image_size": [56, 56], "patch_size": [14, 14]}, image_token_id=90),
        "fuyu": {**TEXT, "text_config": {"model_type": "persimmon", **MHA}, "patch_size": 30,
            "image_token_id": 90},
        "blip": dict(text_config={**BERT, "encoder_hidden_size": 32, "bos_token_id": 1,
            "eos_token_id": 2, "sep_token_id": 2}, vision_config=CLIP, image_text_hidden_size=16,
            projection_dim=16),
        "git": {**BERT, "vision_config": CLIP, "bos_token_id": 1, "eos_token_id": 2},
    },
    "sound": {
        "wav2vec2": SPEECH, "hubert": SPEECH, "wavlm": SPEECH,
        "audio-spectrogram-transformer": {**VIT, "max_length": 64, "num_mel_bins": 32,
            "patch_size": 16},
        "speech_to_text": {**SEQ, "input_feat_per_channel": 20, "conv_channels": 16,
            "max_source_positions": 300, "max_target_positions": 64},
        "qwen2_audio": dict(text_config={"model_type": "qwen2", **TEXT}, audio_token_index=90,
            audio_config=dict(d_model=32, encoder_layers=2, encoder_attention_heads=4,
            encoder_ffn_dim=48, num_mel_bins=20, max_source_positions=40)),
        "sew": {**SPEECH, "conv_stride": [5, 2, 2, 2, 2, 2, 2], 
            "conv_kernel": [10, 3, 3, 3, 3, 2, 2]},
        "data2vec-audio": SPEECH,
        "unispeech-sat": SPEECH,
        "moonshine": dict(vocab_size=99, hidden_size=32, intermediate_size=48,
            encoder_num_hidden_layers=2, decoder_num_hidden_layers=3,
            encoder_num_attention_heads=4, decoder_num_attention_heads=4,
            encoder_num_key_value_heads=4, decoder_num_key_value_heads=4, pad_token_id=0,
            bos_token_id=1, eos_token_id=2, decoder_start_token_id=1),
    },
    "other": {
        "time_series_transformer": dict(prediction_length=4, context_length=8,
            lags_sequence=[1, 2], d_model=16, encoder_layers=2, decoder_layers=2,
            encoder_ffn_dim=32, decoder_ffn_dim=32),
    },
}  # fmt: skip

CASES = {name: settings for kind in TINY.values() for name, settings in kind.items()}
REQUEST = InputRequest(batch=2, tokens=20, image_size=(56, 84), audio_seconds=0.5, padded=True)


def model_class(model_type: str) -> type:
    return getattr(transformers, model_classes()[model_type])


def config_of(model_type: str) -> Any:
    return CONFIG_MAPPING[model_type](**copy.deepcopy(CASES[model_type]))


def real_model(model_type: str) -> nn.Module:
    """The tiny model on the CPU; no weight is zero or what memory held, none depends on others."""
    torch.manual_seed(0)
    model = model_class(model_type)._from_config(config_of(model_type)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.normal_(std=0.1)
    return model


def meta_model(model_type: str) -> nn.Module:
    with torch.device("meta"):
        return model_class(model_type)._from_config(config_of(model_type)).eval()


def abstract_inputs(model_type: str, request: InputRequest = REQUEST) -> dict[str, Any]:
    """Integers real, floats on meta, as ``devplan check`` makes them."""
    model = meta_model(model_type)
    return dict(example_inputs(model, model.config, request).kwargs)


def real_inputs(model_type: str, request: InputRequest = REQUEST) -> dict[str, Any]:
    """The same with seeded random values for floats and for the tokens that mean nothing."""
    seeded = torch.Generator().manual_seed(1)
    config = config_of(model_type)
    plain = plain_id(config)
    tokens = torch.tensor([token for token in range(30) if token not in special_ids(config)])
    inputs = abstract_inputs(model_type, request)
    for name, value in inputs.items():
        if not isinstance(value, torch.Tensor):
            continue
        if value.is_meta:
            inputs[name] = torch.randn(value.shape, generator=seeded, dtype=value.dtype)
        elif name.endswith("input_ids"):
            chosen = tokens[torch.randint(len(tokens), value.shape, generator=seeded)]
            inputs[name] = torch.where(value == plain, chosen, value)
    return inputs


def split_of(model: nn.Module) -> SplitModel:
    """The first half of the blocks on one virtual card, the others on the next."""
    sites = partition(model, declared_no_split(model))
    return SplitModel(
        model=model,
        config=model.config,
        sites=sites,
        device_map=_halves(sites),
        main_device="cuda:0",
        cards=(VirtualCard(), VirtualCard()),
    )


def _halves(sites: tuple[BlockSite, ...]) -> dict[str, str]:
    """Tied blocks stay together: where a tensor is used under two names, the first decides."""
    middle = len(sites) // 2
    return {site.name: f"cuda:{int(index >= middle)}" for index, site in enumerate(sites)}


def generates(model: nn.Module | type) -> bool:
    """Whether the class has a ``generate`` that it means."""
    return hasattr(model, "generate") and model.can_generate()


def for_generate(inputs: dict[str, Any]) -> dict[str, Any]:
    """Without what ``generate`` decides for itself."""
    return {k: v for k, v in inputs.items() if k not in ("use_cache", "logits_to_keep", "labels")}


QUICK = frozenset(
    {"llama", "gemma2", "mixtral", "qwen3_next", "mamba", "jamba", "bert", "t5", "whisper", "vit"}
    | {"qwen2_vl", "llava", "wav2vec2", "detr"}
)
"""Run by default, one or two of each kind; all others are behind ``make test-all``."""


def cases(names):
    """Parameters of a test over types: the quick ones by default, the others marked slow."""
    return [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in names]
