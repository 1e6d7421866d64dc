"""Skeletons for the tests of quantization: small ones, and real ones at full size on meta."""

from __future__ import annotations

import pytest
import torch
import transformers

BF16 = torch.bfloat16
# The argument's name before transformers 4.56 and since.
DTYPE = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"


def skeleton(config_class: str, model_class: str, dtype: torch.dtype = BF16, **hyperparameters):
    """A model of transformers on the meta device; classes by name, skipped where missing."""
    if not hasattr(transformers, model_class):
        pytest.skip(f"transformers {transformers.__version__} has no {model_class}")
    config = getattr(transformers, config_class)(**hyperparameters)
    with torch.device("meta"):
        return getattr(transformers, model_class)._from_config(config, **{DTYPE: dtype})


TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
}
TINY_MOE = {
    **TINY,
    "moe_intermediate_size": 32,
    "head_dim": 16,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}


def total_bytes(model, exceptions) -> int:
    """Parameters of a skeleton, with the bytes of the exceptions as given."""
    return sum(exceptions.get(name, p.nbytes) for name, p in model.named_parameters())


def buffer_bytes(model) -> int:
    return sum(buffer.nbytes for buffer in model.buffers())
