"""Small skeletons for the tests of the profile."""

from __future__ import annotations

import pytest

from tests.profile.quant_skeletons import TINY, TINY_MOE, skeleton


@pytest.fixture
def tiny_llama():
    return skeleton("LlamaConfig", "LlamaForCausalLM", **TINY)


@pytest.fixture
def tied_llama():
    return skeleton("LlamaConfig", "LlamaForCausalLM", tie_word_embeddings=True, **TINY)


@pytest.fixture
def biased_llama():
    """With biases in attention and MLP."""
    return skeleton("LlamaConfig", "LlamaForCausalLM", attention_bias=True, mlp_bias=True, **TINY)


@pytest.fixture
def tiny_moe():
    """Four fused experts in each of two layers."""
    return skeleton("Qwen3MoeConfig", "Qwen3MoeForCausalLM", **TINY_MOE)
