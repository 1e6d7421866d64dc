"""What MODEL means for a pipeline: a folder, and a name of the catalogue."""

from __future__ import annotations

import json
import shutil

import pytest

from devplan.catalog import models
from devplan.core.errors import InputError
from devplan.models.build import build_skeleton
from devplan.models.resolution import resolve

PIPELINES = (
    "tencent/HunyuanVideo-1.5",
    "black-forest-labs/FLUX.1-dev",
    "Wan-AI/Wan2.2-T2V-A14B",
    "Wan-AI/Wan2.2-TI2V-5B",
    "Qwen/Qwen-Image",
)


def test_a_folder_names_its_components_and_their_weights(saved):
    source = resolve(str(saved("flux")))
    assert (source.library, source.class_name) == ("diffusers", "FluxPipeline")
    assert source.components["text_encoder"].class_name == "CLIPTextModel"
    assert source.components["scheduler"].config["_class_name"] == "FlowMatchEulerDiscreteScheduler"
    stored = source.components["transformer"].stored
    assert stored["x_embedder.weight"].shape == (32, 4)
    assert source.components["tokenizer"].stored is None


def test_the_hash_is_of_every_component(saved, tmp_path):
    before = resolve(str(saved("flux"))).config_hash
    copied = tmp_path / "copy"
    shutil.copytree(saved("flux"), copied)
    assert resolve(str(copied)).config_hash == before
    path = copied / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "shift": 2.0}))
    assert resolve(str(copied)).config_hash != before


def test_a_component_by_itself_is_a_model(saved):
    source = resolve(str(saved("flux") / "transformer"))
    assert source.class_name == "FluxTransformer2DModel" and not source.components


@pytest.mark.parametrize(
    "change, message",
    [
        ({"_class_name": "FluxPipelin"}, "not a pipeline of diffusers .*FluxPipeline"),
        ({"_class_name": None}, 'names no "_class_name"'),
        ({"vae": ["diffusers", "AutoencoderQL"]}, "AutoencoderQL of diffusers, which is not here"),
        ({"vae": ["os", "system"]}, "is a system of .*, which is not here"),
    ],
)
def test_an_index_that_cannot_be_used_is_refused_in_one_line(saved, tmp_path, change, message):
    copied = tmp_path / "copy"
    shutil.copytree(saved("flux"), copied)
    path = copied / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=message) as caught:
        build_skeleton(resolve(str(copied)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PIPELINES)
def test_the_catalogue_has_every_component(name):
    source = resolve(name)
    entry = models.find_catalog_model(name)
    assert set(source.components) == set(entry.components)
    for component, part in source.components.items():
        assert part.class_name, component


def test_two_experts_of_one_entry_are_two_models():
    skeleton = build_skeleton(resolve("Wan-AI/Wan2.2-T2V-A14B"), "bfloat16")
    first, second = skeleton.model.transformer, skeleton.model.transformer_2
    assert first is not second
    assert next(first.parameters()) is not next(second.parameters())
    assert skeleton.max_tokens == 512


@pytest.mark.parametrize("command", ["fit", "compare"])
def test_commands_about_tokens_refuse_a_pipeline_before_anything_is_built(command):
    from devplan.machine.parse import parse_gpus
    from devplan.workflows.comparison import compare
    from devplan.workflows.fitting import fit

    name = "black-forest-labs/FLUX.1-dev"
    ask = {
        "fit": lambda: fit(name, ("2x24GiB",)),
        "compare": lambda: compare(name, parse_gpus("2x24GiB")),
    }[command]
    with pytest.raises(InputError, match=f"devplan {command} asks about models that generate"):
        ask()
