"""Real checkpoints of tiny models, and a catalogue of two names that are nobody else's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from devplan.catalog import models


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """The part of ``devplan.catalog.models.CatalogModel`` that `devplan.models` reads."""

    id: str
    library: str
    class_name: str
    config: dict[str, Any]
    dtype: str
    components: dict[str, Any] = field(default_factory=dict)


ENTRIES = {
    entry.id: entry
    for entry in (
        CatalogEntry(
            id="acme/Tiny-Llama-7B",
            library="transformers",
            class_name="LlamaForCausalLM",
            config={"model_type": "llama", "hidden_size": 64},
            dtype="bfloat16",
        ),
        CatalogEntry(
            id="acme/Painter/transformer",
            library="diffusers",
            class_name="PainterTransformer2DModel",
            config={"_class_name": "PainterTransformer2DModel", "num_layers": 4},
            dtype="bfloat16",
        ),
    )
}


@pytest.fixture(autouse=True)
def catalogue(monkeypatch):
    """The names that these tests speak of, whatever the real catalogue holds."""
    monkeypatch.setattr(models, "find_catalog_model", ENTRIES.get)
    monkeypatch.setattr(models, "model_ids", lambda: tuple(ENTRIES))
    return models


@pytest.fixture(scope="session")
def tiny_llama():
    """A Llama of four layers in bfloat16: real weights of the real class."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).to(torch.bfloat16)


@pytest.fixture(scope="session")
def whole_checkpoint(tiny_llama, tmp_path_factory) -> Path:
    """The tiny Llama as ``save_pretrained`` writes it, in one file."""
    folder = tmp_path_factory.mktemp("checkpoints") / "whole"
    tiny_llama.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sharded_checkpoint(tiny_llama, tmp_path_factory) -> Path:
    """The tiny Llama in several shards with an index."""
    folder = tmp_path_factory.mktemp("checkpoints") / "sharded"
    tiny_llama.save_pretrained(folder, max_shard_size="20KB")
    return folder


@pytest.fixture
def checkpoint(whole_checkpoint, tmp_path) -> Path:
    """A copy of the checkpoint in one file, to be spoilt."""
    return copy(whole_checkpoint, tmp_path)


@pytest.fixture
def shards(sharded_checkpoint, tmp_path) -> Path:
    """A copy of the sharded checkpoint, to be spoilt."""
    return copy(sharded_checkpoint, tmp_path)


def copy(folder: Path, target: Path) -> Path:
    import shutil

    return Path(shutil.copytree(folder, target / folder.name))
