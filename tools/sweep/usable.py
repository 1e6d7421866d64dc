"""Default configurations that cannot be used, with what makes them usable.

Some classes have defaults that contradict each other, leave out what the code reads, or need a
package that is not among devplan's; values are those of a published model of the type where one is
known, else the smallest that fit.
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any

from devplan.inputs.facts import walk

_RESNET = {
    "use_timm_backbone": False,
    "backbone": None,
    "use_pretrained_backbone": False,
    "backbone_config": {
        "model_type": "resnet",
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
}
_GLM_ROPE = {
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
        "mrope_section": [8, 12, 12],
    }
}
_GLM_V = {"text_config": _GLM_ROPE, "vision_config": {"out_hidden_size": 4096}}
_COMPASS = {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}}
_GEMMA_EXPERTS = {"num_experts": 128, "top_k_experts": 8, "moe_intermediate_size": 704}
_HUNYUAN = {
    "head_dim": 128,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [16, 16, 16, 16],
    },
}
_QFORMER = {"model_type": "blip_2_qformer"}
_OMNI_TOKENS = {
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "audio_start_token_id": 151647,
}
_OMNI_MOE = {
    **_OMNI_TOKENS,
    "vision_config": {"out_hidden_size": 2048},
    "audio_config": {"output_dim": 2048},
    "text_config": {
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
    },
}
_MODERNVBERT = {"vision_config": {"image_size": 512, "patch_size": 16}}
# Kernel, stride and padding of each branch, as PaddleOCR's IntraCLBlock has them.
_INTRACLASS = {
    "intraclass_block_config": {
        "reduce_channel": [1, 1, 0],
        "return_channel": [1, 1, 0],
        "vertical_long_to_small_conv_longratio": [[7, 1], [1, 1], [3, 0]],
        "vertical_long_to_small_conv_midratio": [[5, 1], [1, 1], [2, 0]],
        "vertical_long_to_small_conv_shortratio": [[3, 1], [1, 1], [1, 0]],
        "horizontal_small_to_long_conv_longratio": [[1, 7], [1, 1], [0, 3]],
        "horizontal_small_to_long_conv_midratio": [[1, 5], [1, 1], [0, 2]],
        "horizontal_small_to_long_conv_shortratio": [[1, 3], [1, 1], [0, 1]],
        "symmetric_conv_long_longratio": [[7, 7], [1, 1], [3, 3]],
        "symmetric_conv_long_midratio": [[5, 5], [1, 1], [2, 2]],
        "symmetric_conv_long_shortratio": [[3, 3], [1, 1], [1, 1]],
    },
    "scale_factor_list": [1, 2, 4, 8],
    "kernel_list": [3, 2, 2],
}
# Each stage at half the resolution of the one before, as a detector's neck adds them up.
_HALVING = {
    "model_type": "pp_lcnet_v4",
    "block_configs": [
        [[3, 96, 96, 1, True]],
        [[3, 96, 96, 2, False]],
        [[3, 96, 192, 2, False]],
        [[3, 192, 384, 2, False]],
    ],
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
# The default of backbone_config misspells "architecture", and names ResNet-50 so.
_REPVIT = {
    "backbone_config": {
        "model_type": "timm_wrapper",
        "architecture": "repvit_m1",
        "num_classes": 2,
        "model_args": {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    }
}
_INDEXER = {
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 256,
    "indexer_budget": 2048,
    "indexer_compress_ratio": 16,
}

USABLE: dict[str, dict] = {
    "aria": {"vision_config": {"image_size": 490, "patch_size": 14}},
    "autoformer": {"prediction_length": 8},
    "aya_vision": {"vision_config": {"hidden_size": 1152, "num_attention_heads": 16}},
    "bamba": {"attn_layer_indices": [9, 18, 27]},
    "blip-2": {"image_token_index": 50265},
    # The cache reads it of the whole model, which has it in its parts only: the decoder's.
    "blt": {"num_hidden_layers": 9},
    "chameleon": {"vocabulary_map": {"<image>": 8711, "IMGIMGAZ": 4}},
    "conditional_detr": _RESNET,
    "cosmos3_omni": {"vision_config": {"out_hidden_size": 4096}},
    "dab-detr": _RESNET,
    "cohere_compass": {"text_config": _COMPASS},
    "cohere_compass_text": _COMPASS,
    "colmodernvbert": {"vlm_config": _MODERNVBERT},
    "dbrx": {"attn_config": {"rope_theta": 500000.0, "kv_n_heads": 8, "clip_qkv": 8}},
    "deepseek_ocr2": {
        "vision_config": {
            "encoder_config": {
                "hidden_size": 896,
                "intermediate_size": 4864,
                "num_attention_heads": 14,
                "num_key_value_heads": 2,
                "num_hidden_layers": 24,
            }
        },
        "text_config": {
            "hidden_size": 1280,
            "num_attention_heads": 10,
            "num_key_value_heads": 10,
            "mlp_layer_types": ["dense"] + ["sparse"] * 31,
            "num_experts_per_tok": 6,
            "moe_intermediate_size": 896,
            "n_group": 1,
            "topk_group": 1,
        },
    },
    "diffusion_gemma": {"text_config": _GEMMA_EXPERTS},
    "gemma4": {"vision_config": {}, "audio_config": {}},
    "gemma4_unified": {"vision_config": {}, "audio_config": {}},
    "granite_speech": {"projector_config": {**_QFORMER, "encoder_hidden_size": 1024}},
    "granite_speech_plus": {"projector_config": {**_QFORMER, "encoder_hidden_size": 1024}},
    "granite4_vision": {
        "vision_config": {
            "model_type": "siglip_vision_model",
            "image_size": 384,
            "num_hidden_layers": 27,
        },
        "vision_feature_select_strategy": "full",
        "image_grid_pinpoints": [[384, 768], [768, 384], [768, 768]],
        "deepstack_layer_map": [[-19, 9], [-13, 6], [-7, 3], [-1, 0]],
        "downsample_rate": "4/8",
    },
    "deepseek_v2": {
        "moe_intermediate_size": 1408,
        "num_experts_per_tok": 6,
        "n_group": 1,
        "topk_group": 1,
    },
    "deformable_detr": _RESNET,
    "detr": _RESNET,
    "emu3": {
        "vocabulary_map": {
            "<image>": 151859,
            "<|extra_200|>": 151858,
            "<|visual token 000000|>": 151860,
        }
    },
    "edgetam": {"vision_config": _REPVIT},
    "edgetam_vision_model": _REPVIT,
    "dots1": {"n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6},
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "exaone4_5": {"vision_config": {"out_hidden_size": 4096}},
    "gemma3": {
        "text_config": {"hidden_size": 2560},
        "vision_config": {"image_size": 896, "patch_size": 14, "hidden_size": 1152},
    },
    "glm4v": _GLM_V,
    "glm46v": _GLM_V,
    "glm4v_moe": {
        "text_config": {**_GLM_ROPE, "head_dim": 128},
        "vision_config": {"out_hidden_size": 4096},
    },
    "glm4v_moe_text": {**_GLM_ROPE, "head_dim": 128},
    "glm4v_text": _GLM_ROPE,
    "glmga": _GLM_V,
    "glm_image": {"text_config": _GLM_ROPE},
    "glm_image_text": _GLM_ROPE,
    "granitemoehybrid": {"layer_types": (["mamba"] * 7 + ["attention"]) * 4},
    # A vector of the codec for each of the semantic model, whose hop is 320 samples at 16 kHz.
    "higgs_audio_v2_tokenizer": {
        "acoustic_model_config": {
            "model_type": "dac",
            "downsampling_ratios": [8, 5, 4, 2, 3],
            "upsampling_ratios": [8, 5, 4, 2, 3],
        }
    },
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "hunyuan_vl_text": _HUNYUAN,
    "hunyuan_vl": {"text_config": _HUNYUAN},
    "informer": {"prediction_length": 8},
    "instructblip": {"image_token_index": 32000},
    "instructblipvideo": {"video_token_index": 32000},
    "janus": {"vision_config": {"projection_dim": 4096}},
    "llama4": {"vision_config": {"hidden_size": 1408, "vision_output_dim": 4096}},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 16},
    "lw_detr": {"projector_scale_factors": [1.0]},
    "ministral": {"head_dim": 128},
    "modernvbert": _MODERNVBERT,
    "moonshine_streaming": {"num_key_value_heads": 8},
    "nemotron": {"num_key_value_heads": 8},
    "perception_lm": {
        "vision_config": {
            "architecture": "vit_pe_core_large_patch14_336",
            "model_args": {
                "embed_dim": 1024,
                "depth": 23,
                "img_size": [448, 448],
                "global_pool": "",
                "use_post_transformer_norm": False,
                "init_values": 0.1,
                "ref_feat_shape": [32, 32],
            },
        },
        "projector_pooling_ratio": 2,
    },
    # A threshold and a place in the reading order for each of the two labels.
    "pp_doclayout_v2": {"class_thresholds": [0.5, 0.5], "class_order": [0, 1]},
    "pp_ocrv5_server_det": _INTRACLASS,
    "pp_ocrv6_medium_det": {**_INTRACLASS, "backbone_config": _HALVING},
    "pp_ocrv6_small_det": {
        "backbone_config": _HALVING,
        "layer_list_out_channels": [96, 96, 192, 384],
    },
    "qwen2_vl": {"vision_config": {"hidden_size": 8192}},
    "shieldgemma2": {
        "text_config": {"hidden_size": 2560},
        "vision_config": {"image_size": 896, "patch_size": 14, "hidden_size": 1152},
    },
    "qwen2_5_omni": {
        "thinker_config": _OMNI_TOKENS,
        "talker_config": {
            "hidden_size": 896,
            "num_hidden_layers": 24,
            "num_attention_heads": 12,
            "head_dim": 128,
        },
    },
    "qwen2_5_omni_thinker": _OMNI_TOKENS,
    "qwen3_omni_moe_thinker": _OMNI_MOE,
    # Second-hand, as no published configuration was at hand: heads as keras-hub has them, the
    # talker's experts as tests of other projects set them.
    "qwen3_omni_moe": {
        "thinker_config": _OMNI_MOE,
        "talker_config": {
            "spatial_merge_size": 2,
            "text_config": {"shared_expert_intermediate_size": 768},
        },
    },
    "nemotron_h_omni": {"image_token_id": 18, "video_token_id": 19},
    "ovis2": {"hidden_size": 4096},
    "qwen3_asr": {"audio_config": {"output_dim": 2048}},
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp_text": _INDEXER,
    "reformer": {"is_decoder": True},
    "step3p7": {"text_config": {"sliding_window": 512}},
    "t5gemma2_encoder": {"text_config": {"dropout_rate": 0.0}},
    "table-transformer": _RESNET,
    "timm_backbone": {"backbone": "resnet50"},
    # Features of all stages are joined.
    "uvdoc": {
        "backbone_config": {
            "model_type": "uvdoc_backbone",
            "out_features": [f"stage{number}" for number in range(1, 7)],
        }
    },
    # Three channels of the picture and one of the trimap; as wide as its backbone.
    "vitmatte": {
        "backbone_config": {
            "model_type": "vitdet",
            "num_channels": 4,
            "hidden_size": 384,
            "num_attention_heads": 6,
            "out_features": ["stage12"],
        }
    },
    "voxtral": {"audio_token_id": 24},
    "wav2vec2-bert": {"vocab_size": 32},
    "wav2vec2-conformer": {"vocab_size": 32},
    "xmod": {"default_language": "en_XX"},
    "time_series_transformer": {"prediction_length": 8},
}


def usable_config(model_type: str, layers: int | None = None) -> Any:
    """The default configuration of a type, with what makes it usable.

    Parameters
    ----------
    model_type
        As in transformers' ``CONFIG_MAPPING``.
    layers
        Layers to which every stack is cut; None: as many as it has.
    """
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[model_type](**copy.deepcopy(USABLE.get(model_type, {})))
    _fit_widths(config)
    _name_first_token(config)
    if layers is not None:
        for _, part in walk(config):
            _cut(part, layers)
    return config


def _fit_widths(config: Any) -> None:
    """Let towers end in the text's width: defaults of the two parts often differ."""
    text = getattr(config, "text_config", None)
    width = getattr(text, "hidden_size", None)
    tower = getattr(config, "vision_config", None)
    if isinstance(width, int) and hasattr(tower, "out_hidden_size"):
        tower.out_hidden_size = width


def _name_first_token(config: Any) -> None:
    """Let ``generate`` know what a decoder begins with; published models all say it."""
    for _, part in walk(config):
        names = ("decoder_start_token_id", "bos_token_id")
        if getattr(part, "is_encoder_decoder", False) is True and all(
            getattr(part, name, None) is None for name in names
        ):
            part.decoder_start_token_id = getattr(part, "pad_token_id", None) or 0


_DEPTHS = (
    "num_hidden_layers",
    "num_layers",
    "n_layer",
    "n_layers",
    "depth",
    "encoder_layers",
    "decoder_layers",
    "num_encoder_layers",
    "num_decoder_layers",
    "encoder_num_hidden_layers",
    "decoder_num_hidden_layers",
    "decoder_num_layers",
    "speech_encoder_layers",
    "t2u_encoder_layers",
    "t2u_decoder_layers",
    "num_blocks",
    "l_layers",
    "r_layers",
    "x_layers",
)
"""What configurations call the number of layers of a stack."""
_PER_LAYER = ("layer_types", "layers_block_type", "mlp_layer_types")
"""Settings with an item for each layer."""


def _cut(part: Any, layers: int) -> None:
    for name in _DEPTHS:
        value = getattr(part, name, None)
        if isinstance(value, int) and value > layers:
            with contextlib.suppress(NotImplementedError):  # it is the sum of other settings
                setattr(part, name, layers)
    for name in _PER_LAYER:
        value = getattr(part, name, None)
        if isinstance(value, list) and len(value) > layers:
            setattr(part, name, value[:layers])
