"""Tiny twins: for each kind of cache a model of the installed transformers, small enough to run.

Every entry is ``model type: settings``.  Sizes are small; windows and chunks lie above the tokens
of the small virtual runs (40) and below the largest number of tokens that the tests run.
"""

from __future__ import annotations

from typing import Any

WINDOW = 64

TEXT = dict(
    vocab_size=99,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    pad_token_id=0,
)
MAMBA = dict(mamba_d_state=8, mamba_d_conv=4, mamba_expand=2)
MAMBA2 = dict(mamba_n_heads=4, mamba_d_head=16, mamba_n_groups=1, **MAMBA)
LINEAR = dict(
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    linear_key_head_dim=8,
    linear_value_head_dim=8,
)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
MLA = dict(
    q_lora_rank=16,
    kv_lora_rank=16,
    qk_rope_head_dim=8,
    qk_nope_head_dim=8,
    v_head_dim=8,
)

FULL_AND_SLIDING = ["sliding_attention", "full_attention"] * 2

TWINS: dict[str, dict[str, dict[str, Any]]] = {
    "full attention": {
        "llama": {**TEXT, "num_key_value_heads": 4},
        "gpt2": dict(vocab_size=99, n_embd=32, n_layer=3, n_head=4, n_positions=512),
        "falcon": dict(vocab_size=99, hidden_size=32, num_hidden_layers=3, num_attention_heads=4),
        "bloom": dict(vocab_size=99, hidden_size=32, n_layer=3, n_head=4),
        "gpt_bigcode": dict(vocab_size=99, n_embd=32, n_layer=3, n_head=4, n_positions=512),
    },
    "grouped queries": {"qwen2": TEXT, "mixtral": {**TEXT, "num_local_experts": 4}},
    "latent attention": {
        "deepseek_v3": {
            **TEXT,
            **MLA,
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "moe_intermediate_size": 16,
            "first_k_dense_replace": 1,
        }
    },
    "sliding window": {"mistral": {**TEXT, "head_dim": 8, "sliding_window": WINDOW}},
    "sliding and full": {
        "gemma2": {**TEXT, "head_dim": 8, "sliding_window": WINDOW},
        "gemma3_text": {**TEXT, "head_dim": 8, "sliding_window": WINDOW, "num_hidden_layers": 7},
        "gpt_oss": {
            **TEXT,
            "head_dim": 8,
            "sliding_window": WINDOW,
            "num_local_experts": 4,
            "layer_types": FULL_AND_SLIDING,
        },
    },
    "keys and values shared between layers": {
        "gemma3n_text": {
            **TEXT,
            "head_dim": 8,
            "sliding_window": WINDOW,
            "num_hidden_layers": 10,
            "num_kv_shared_layers": 4,
            "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 2,
            "vocab_size_per_layer_input": 99,
            "hidden_size_per_layer_input": 8,
            "laurel_rank": 4,
            "activation_sparsity_pattern": [0.0] * 10,
            "intermediate_size": [48] * 10,
        }
    },
    "chunked": {
        "llama4_text": {
            **TEXT,
            "head_dim": 8,
            "intermediate_size_mlp": 48,
            "attention_chunk_size": WINDOW,
            "num_local_experts": 2,
        }
    },
    "linear attention": {
        "qwen3_next": {**TEXT, **LINEAR, **EXPERTS, "head_dim": 8,
            "shared_expert_intermediate_size": 16},
        "minimax": {**TEXT, "head_dim": 8, "num_local_experts": 2, "block_size": 16,
            "layer_types": ["linear_attention", "full_attention"] * 2},
    },
    "state space": {
        "mamba": dict(vocab_size=99, hidden_size=32, num_hidden_layers=3, state_size=8),
        "mamba2": dict(vocab_size=99, hidden_size=32, num_hidden_layers=3, state_size=8,
            num_heads=8, head_dim=8, n_groups=2, chunk_size=16),
        "falcon_mamba": dict(vocab_size=99, hidden_size=32, num_hidden_layers=3, state_size=8),
    },
    "state space and attention": {
        "jamba": {**TEXT, **MAMBA, "mamba_dt_rank": 4, "num_experts": 2, "attn_layer_period": 2,
            "attn_layer_offset": 1, "use_mamba_kernels": False},
        "bamba": {**TEXT, **MAMBA2, "mamba_chunk_size": 16, "attn_layer_indices": [1, 3]},
        "falcon_h1": {**TEXT, **MAMBA2, "mamba_d_ssm": 64, "mamba_chunk_size": 16, "head_dim": 8},
        "zamba2": {**TEXT, "num_key_value_heads": 4, "mamba_d_state": 8, "n_mamba_heads": 4,
            "mamba_headdim": 16, "mamba_ngroups": 1, "chunk_size": 16, "num_mem_blocks": 1,
            "layers_block_type": ["mamba", "hybrid"] * 2, "use_mem_rope": False},
    },
    "convolution": {
        "lfm2": {**TEXT, "block_ff_dim": 48, "layer_types": ["conv", "full_attention"] * 2}
    },
    "recurrent": {
        "rwkv": dict(vocab_size=99, hidden_size=32, num_hidden_layers=3, attention_hidden_size=32,
            context_length=512),
        "xlstm": dict(vocab_size=99, hidden_size=128, num_hidden_layers=3, num_heads=2),
        "recurrent_gemma": {**TEXT, "num_key_value_heads": 1, "lru_width": 32,
            "attention_window_size": WINDOW, "num_hidden_layers": 5},
    },
    "encoder and decoder": {
        "t5": dict(vocab_size=99, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4),
        "bart": dict(vocab_size=99, d_model=32, encoder_layers=3, decoder_layers=3,
            encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48,
            decoder_ffn_dim=48, max_position_embeddings=512),
        "whisper": dict(vocab_size=99, d_model=32, encoder_layers=2, decoder_layers=3,
            encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48,
            decoder_ffn_dim=48, num_mel_bins=20, max_source_positions=30,
            max_target_positions=512, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None),
    },
}  # fmt: skip

CASES = [(model_type, settings) for kind in TWINS.values() for model_type, settings in kind.items()]
