from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from devplan.inputs.example import example_inputs
from devplan.inputs.facts import Facts
from devplan.inputs.request import InputRequest
from devplan.inputs.text import Placeholders, compose_sequences
from tests.inputs.tiny import TEXT, made_and_run, on_meta


@pytest.fixture(scope="module")
def llama():
    return on_meta(LlamaForCausalLM, LlamaConfig(**TEXT))


def test_ids_are_real_and_plain(llama):
    example, trace = made_and_run(llama, tokens=20)
    ids = example.kwargs["input_ids"]
    assert ids.shape == (1, 20) and ids.device.type == "cpu"
    assert not set(ids.unique().tolist()) & {0, 1, 2}
    assert example.modalities == ("text",) and example.source == "configuration"
    assert trace.output.logits.shape == (1, 20, 128)


def test_padding_is_on_the_left_of_one_sequence(llama):
    example, _ = made_and_run(llama, tokens=20, batch=3, padded=True)
    mask, ids = example.kwargs["attention_mask"], example.kwargs["input_ids"]
    assert mask[0].tolist() == [0] * 5 + [1] * 15
    assert mask[1:].all()
    assert (ids[0, :5] == 0).all() and (ids[:, 5:] != 0).all()


def test_a_single_sequence_has_no_padding(llama):
    example, _ = made_and_run(llama, tokens=20, padded=True)
    assert example.kwargs["attention_mask"].all()


def test_text_ends_with_the_position_embeddings():
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
        vocab_size=100,
    )
    example, trace = made_and_run(on_meta(BertModel, config), tokens=64)
    assert example.kwargs["input_ids"].shape == (1, 14)
    assert not example.kwargs["token_type_ids"].any()
    assert trace.output.last_hidden_state.shape == (1, 14, 32)


def test_decoder_of_an_encoder_decoder():
    config = T5Config(d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4, vocab_size=100)
    model = on_meta(T5ForConditionalGeneration, config)
    example, trace = made_and_run(model, tokens=12, decoder_tokens=5)
    assert example.kwargs["decoder_input_ids"].shape == (1, 5)
    assert "decoder text" in example.modalities
    assert trace.output.logits.shape == (1, 5, 100)


def test_the_model_is_left_as_it_was(llama):
    before = [(id(module), dict(vars(module))) for module in llama.modules()]
    hooks = [len(module._forward_hooks) for module in llama.modules()]
    example_inputs(llama, llama.config, InputRequest())
    assert [(id(module), dict(vars(module))) for module in llama.modules()] == before
    assert [len(module._forward_hooks) for module in llama.modules()] == hooks


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 4),
    tokens=st.integers(1, 60),
    items=st.integers(0, 3),
    rows=st.integers(1, 30),
    padded=st.booleans(),
)
def test_every_sequence_holds_all_placeholders(llama, batch, tokens, items, rows, padded):
    request = InputRequest(batch=batch, tokens=tokens, padded=padded)
    wanted = [Placeholders(kind="image", items=items, rows=rows)]
    made = compose_sequences(Facts(llama, llama.config, request), wanted)
    assert made.mask_of("image").sum(-1).tolist() == [items * rows] * batch
    assert made.ids.shape == made.mask.shape == made.kinds.shape
    assert not (made.mask_of("image") & (made.mask == 0)).any()
    assert made.mask.dtype == torch.int64
