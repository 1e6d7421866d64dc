"""Small versions of real classes as folders with a configuration and no weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING


def config_folder(folder: Path, class_name: str, model_type: str, **settings: Any) -> str:
    """A folder that MODEL may name."""
    config = CONFIG_MAPPING[model_type](**settings).to_dict()
    config |= {"architectures": [class_name], "model_type": model_type, "dtype": "bfloat16"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(folder)


def small_llama(folder: Path, **settings: Any) -> str:
    """About 0.3 GiB in bfloat16; an empty promise of 2**20 tokens, so that memory ends first."""
    sizes = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "vocab_size": 8192,
        "max_position_embeddings": 2**20,
    }
    return config_folder(folder, "LlamaForCausalLM", "llama", **{**sizes, **settings})
