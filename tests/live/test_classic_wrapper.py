"""What the wrapper that people paste breaks, and the patch does not: side by side.

Written from its descriptions (docs/embedding-patch.md): a module of its own around the embedding,
put in its place.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

import devplan
from tests.virtual import tiny

IDS = torch.arange(8)[None]


class Wrapped(nn.Module):
    """The embedding inside another module that moves what it gives."""

    def __init__(self, embedding: nn.Module, device: str) -> None:
        super().__init__()
        self.embedding = embedding
        self.device = device

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.embedding(ids).to(self.device)


def wrap(model: nn.Module) -> nn.Module:
    model.set_input_embeddings(Wrapped(model.get_input_embeddings(), "cpu"))
    return model


def patch(model: nn.Module) -> nn.Module:
    devplan.patch_embeddings(model, device="cpu")
    return model


@pytest.fixture
def plain() -> nn.Module:
    model = tiny.real_model("llama")
    model.config.tie_word_embeddings = True
    model.tie_weights()
    return model


def test_both_give_the_same_output(plain):
    with torch.no_grad():
        expected = plain(IDS).logits
        assert torch.equal(patch(plain)(IDS).logits, expected)
        devplan.unpatch_embeddings(plain)
        assert torch.equal(wrap(plain)(IDS).logits, expected)


def test_keys_of_the_state_dict(plain):
    state = dict(plain.state_dict())
    patch(plain).load_state_dict(state)
    devplan.unpatch_embeddings(plain)
    with pytest.raises(RuntimeError, match=r"Missing key.*embed_tokens\.embedding\.weight"):
        wrap(plain).load_state_dict(state)


def test_weight(plain):
    assert patch(plain).get_input_embeddings().weight is plain.lm_head.weight
    devplan.unpatch_embeddings(plain)
    with pytest.raises(AttributeError, match="weight"):
        _ = wrap(plain).get_input_embeddings().weight


def test_ties(plain):
    patch(plain).tie_weights()
    assert plain.lm_head.weight is plain.model.embed_tokens.weight
    devplan.unpatch_embeddings(plain)
    with pytest.raises(AttributeError, match="weight"):
        wrap(plain).tie_weights()


def test_resize(plain):
    assert patch(plain).resize_token_embeddings(120).num_embeddings == 120
    devplan.unpatch_embeddings(plain)
    with pytest.raises((AttributeError, TypeError)):
        wrap(plain).resize_token_embeddings(130)


def test_checkpoint(plain, tmp_path):
    kind = type(plain)
    with torch.no_grad():
        expected = plain(IDS).logits
        patch(plain).save_pretrained(tmp_path / "patched")
        assert torch.equal(kind.from_pretrained(tmp_path / "patched")(IDS).logits, expected)
        devplan.unpatch_embeddings(plain)
        plain.config.tie_word_embeddings = False  # else the head, which is the same tensor, is read
        wrap(plain).save_pretrained(tmp_path / "wrapped")
        _, told = kind.from_pretrained(tmp_path / "wrapped", output_loading_info=True)
    assert "model.embed_tokens.weight" in told["missing_keys"]


def test_twice(plain):
    patch(patch(plain))
    assert type(plain.get_input_embeddings()) is nn.Embedding
    devplan.unpatch_embeddings(plain)
    twice = wrap(wrap(plain)).get_input_embeddings()
    assert type(twice.embedding) is Wrapped


def test_names_of_the_map(plain):
    names = dict(plain.named_parameters())
    assert "model.embed_tokens.weight" in names
    patch(plain)
    assert dict(plain.named_parameters()).keys() == names.keys()
    devplan.unpatch_embeddings(plain)
    assert dict(wrap(plain).named_parameters()).keys() != names.keys()
