"""Every entry of the model catalogue, built on the meta device and counted."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from copy import deepcopy

import pytest
import yaml

from devplan.catalog import models
from devplan.catalog.models import (
    LIBRARIES,
    CatalogModel,
    find_catalog_model,
    load_entry,
    model_ids,
)
from devplan.core.dtypes import dtype_bytes

MODEL_IDS = model_ids()


def count_parameters(module) -> int:
    """Elements of all parameters, tied ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def build_transformers(entry: CatalogModel):
    import torch
    import transformers

    model_class = getattr(transformers, entry.class_name, None)
    if model_class is None:
        pytest.skip(f"transformers {transformers.__version__} has no {entry.class_name}")
    config = deepcopy(dict(entry.config))
    config.pop("quantization_config", None)
    config = model_class.config_class.from_dict(config)
    assert config.model_type == entry.model_type
    with torch.device("meta"):
        model = model_class._from_config(config)
    model.tie_weights()
    return model


def build_diffusers(entry: CatalogModel):
    import torch

    diffusers = pytest.importorskip("diffusers")
    assert not entry.components
    config = {key: value for key, value in entry.config.items() if key != "_class_name"}
    with torch.device("meta"):
        return getattr(diffusers, entry.class_name).from_config(config)


def computed_parameters(entry: CatalogModel) -> int:
    if entry.components:  # every model of a pipeline has weights of its own
        parts = [load_entry(said) for said in entry.components.values() if isinstance(said, str)]
        return sum(computed_parameters(part) for part in parts)
    if entry.library == "tensors":
        return sum(math.prod(shape) for _, shape in entry.tensors.expand())
    build = {"transformers": build_transformers, "diffusers": build_diffusers}[entry.library]
    return count_parameters(build(entry))


@pytest.mark.parametrize("name", MODEL_IDS)
def test_the_count_of_the_class_leads_to_the_published_total(name):
    entry = load_entry(name)
    if entry.library == "code":
        assert (entry.verified, entry.adjustments) == ("unverified", {})
        return
    total = computed_parameters(entry) + sum(entry.adjustments.values())
    if entry.verified == "exact":
        assert total == entry.published_parameters
    else:
        assert abs(total - entry.published_parameters) <= entry.rounded_to // 2


@pytest.mark.parametrize("name", MODEL_IDS)
def test_an_entry_is_complete(name):
    entry = load_entry(name)
    assert entry.id == name
    assert entry.library in LIBRARIES
    assert entry.verified in ("exact", "rounded", "unverified")
    assert (entry.rounded_to > 1) == (entry.verified != "exact")
    assert (entry.verified == "unverified") == (entry.library == "code")
    assert entry.dtype in {"bfloat16", "float16", "float32"}
    assert (entry.model_type is None) == (entry.library == "diffusers")
    assert {"config", "parameters"} <= entry.sources.keys()
    assert ("checkpoint_bytes" in entry.sources) == (entry.checkpoint_bytes is not None)
    assert entry.checkpoint_bytes is None or entry.computed_bytes is None
    assert all(amount > 0 for amount in entry.adjustments.values())


def test_an_unquantized_checkpoint_has_the_bytes_of_its_parameters():
    # Published sizes that were found on their own must agree with count and dtype.
    sized = [entry for entry in models.load_models() if entry.checkpoint_bytes]
    plain = [entry for entry in sized if entry.config.get("quantization_config") is None]
    assert len(plain) >= 8
    for entry in plain:
        assert entry.checkpoint_bytes == entry.published_parameters * dtype_bytes(entry.dtype), (
            entry.id
        )


@pytest.mark.parametrize(
    "name",
    [
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "qwen/qwen2.5-vl-7b-instruct",
        "qwen2.5-vl-7b-instruct",
        " Qwen2.5-VL-7B-Instruct ",
    ],
)
def test_find_is_forgiving_about_case_and_organisation(name):
    assert find_catalog_model(name).id == "Qwen/Qwen2.5-VL-7B-Instruct"


def test_a_component_of_a_pipeline_has_its_own_entry():
    assert find_catalog_model("flux.1-dev/transformer").class_name == "FluxTransformer2DModel"
    assert find_catalog_model("black-forest-labs/FLUX.1-dev").class_name == "FluxPipeline"


@pytest.mark.parametrize("name", ["", "Qwen", "Qwen/", "no-such-model", "../models", "7B"])
def test_find_knows_nothing_else(name):
    assert find_catalog_model(name) is None


def test_other_names_lead_to_entries_and_are_nobody_elses_id():
    aliases = yaml.safe_load(models.ALIASES.read_text())
    assert set(aliases) <= set(MODEL_IDS)
    for name, others in aliases.items():
        assert all(
            find_catalog_model(other).id == name and other not in MODEL_IDS for other in others
        )


def test_a_name_that_two_organisations_use_is_ambiguous(tmp_path, monkeypatch):
    text = (models.ENTRIES / "Qwen--Qwen3-8B.yaml").read_text()
    for org in ("one", "two"):
        (tmp_path / f"{org}--Twin.yaml").write_text(text.replace("Qwen/Qwen3-8B", f"{org}/Twin"))
    monkeypatch.setattr(models, "ENTRIES", tmp_path)
    assert find_catalog_model("twin") is None
    assert find_catalog_model("two/twin").id == "two/Twin"


def test_what_a_caller_does_to_an_entry_stays_with_the_caller():
    load_entry("Qwen/Qwen3-8B").config["hidden_size"] = 1
    assert load_entry("Qwen/Qwen3-8B").config["hidden_size"] == 4096


def test_reading_the_catalogue_needs_no_torch():
    code = (
        "import sys; from devplan.catalog import gpus, models;"
        "models.find_catalog_model('gpt-oss-20b'); gpus.find_gpu('rtx-4090');"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_tensor_patterns_expand_layer_by_layer():
    tensors = find_catalog_model("MiniCPM-V-4_5").tensors
    names = [name for name, _ in tensors.expand()]
    assert len(names) == len(set(names)) == 849
    assert names[0] == "llm.model.embed_tokens.weight"
    first, second = (names.index(f"llm.model.layers.{n}.mlp.up_proj.weight") for n in (0, 1))
    assert second - first == 11  # all 11 tensors of a layer lie together
    assert not any("{" in name for name in names)


def test_repeated_layers_are_known_by_their_class():
    tensors = find_catalog_model("MiniCPM-V-4_5").tensors
    assert tensors.layer_class("llm.model.layers.35") == "Qwen3DecoderLayer"
    assert tensors.layer_class("vpm.encoder.layers.0") == "SiglipEncoderLayer"
    assert tensors.layer_class("llm.model.layers") is None
    assert tensors.layer_class("llm.model.layers.3.mlp") is None
    assert tensors.layer_class("resampler") is None


def test_the_models_people_ask_for_are_there():
    wanted = """qwen2.5-vl-7b-instruct qwen2.5-vl-72b-instruct qwen2-vl-7b-instruct deepseek-v3
    kimi-k2-thinking gpt-oss-120b mixtral-8x7b-v0.1 llama-3.1-70b-instruct internvl3-8b-hf
    minimax-m2 ernie-4.5-vl-28b-a3b-thinking got-ocr-2.0-hf qwen-image/vae minicpm-v-4_5
    spark-formalizer-7b"""
    assert [name for name in wanted.split() if find_catalog_model(name) is None] == []


def test_the_checklist_is_short():
    page = (models.ENTRIES.parents[2] / "docs" / "catalogue.md").read_text()
    steps = re.search(r"### Add a model\n\n(.+?)\n\nEach forgotten", page, re.DOTALL)[1]
    assert 3 <= len(re.findall(r"^\d\. ", steps, re.MULTILINE)) <= 6
