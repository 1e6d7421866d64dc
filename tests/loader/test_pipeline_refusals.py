"""What is refused of a pipeline, and which arguments go where, before anything of it is read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import devplan
from devplan.core.errors import InputError
from devplan.loader.pipelines import (
    PipelineLoader,
    component_arguments,
    hub_arguments,
    library_of,
    own_arguments,
    pipeline_loader,
    refuse_unknown,
)
from devplan.loader.target import target_of
from tests.report.example_plans import MAP_FILE

FluxPipeline = pytest.importorskip("diffusers").FluxPipeline
VERSIONS = {"diffusers": "0.42.1"}
COMPONENTS = ("transformer", "vae")


def target(class_name: str = "FluxPipeline"):
    model = replace(MAP_FILE.model, class_name=class_name, components=COMPONENTS, id="a/flux")
    entries = {"transformer": "cuda:0", "vae": "cuda:1"}
    content = replace(MAP_FILE, model=model, device_map=entries, versions=VERSIONS, loads=())
    return target_of(content, None)


@pytest.mark.parametrize("name", ["NoSuchPipeline", "AutoencoderKL", "DiffusionPipeline", "utils"])
def test_a_class_that_is_no_pipeline_of_the_installed_diffusers(name):
    with pytest.raises(InputError, match=f"diffusers .* has no pipeline {name}; upgrade diffusers"):
        pipeline_loader(target(name), None, {}, trust_remote_code=False)


def test_where_a_pipeline_comes_from(tmp_path):
    found = pipeline_loader(target(), None, {}, trust_remote_code=False)
    assert (found.pipeline_class, found.place, found.revision) == (FluxPipeline, "a/flux", None)
    given = pipeline_loader(target(), str(tmp_path), {"revision": "abc"}, trust_remote_code=True)
    assert (given.place, given.revision) == (str(tmp_path), "abc") and given.trust_remote_code
    model = replace(target().content.model, revision="planned")
    planned = target_of(replace(target().content, model=model), None)
    for place, revision in ((None, "planned"), ("b/other", None)):
        assert pipeline_loader(planned, place, {}, trust_remote_code=False).revision == revision


# ----------------------------------------------------------------------------------- its folder


def folder_of(tmp_path, **index):
    content = {"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"], **index}
    (tmp_path / "model_index.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def at(folder, *, trust: bool = False) -> PipelineLoader:
    return PipelineLoader(
        pipeline_class=FluxPipeline,
        place=str(folder),
        revision=None,
        given={},
        trust_remote_code=trust,
    )


def test_a_folder_without_an_index_is_no_pipeline(tmp_path):
    with pytest.raises(InputError, match=r"is not a pipeline, as it has no model_index\.json"):
        at(tmp_path).folder  # noqa: B018
    assert at(folder_of(tmp_path)).folder == tmp_path


@pytest.mark.parametrize("code", ["vae/diffusers.py", "None.py"])
def test_code_beside_the_weights_is_refused_where_it_is_not_trusted(tmp_path, code):
    """diffusers looks there first, also for what has neither library nor class (``None.py``)."""
    folder = folder_of(tmp_path)
    (folder / code).parent.mkdir(exist_ok=True)
    (folder / code).write_text("raise SystemExit", encoding="utf-8")
    with pytest.raises(InputError) as refused:
        at(folder).folder  # noqa: B018
    assert str(refused.value).startswith(f"{folder / code} is code that comes with {folder};")
    assert "trust_remote_code=True" in str(refused.value)
    assert at(folder, trust=True).folder == folder


def test_classes_of_other_libraries_are_refused_where_they_are_not_trusted(tmp_path):
    folder = folder_of(tmp_path, vae=["os", "system"])
    with pytest.raises(InputError):
        at(folder).folder  # noqa: B018
    assert at(folder, trust=True).folder == folder


def test_a_component_that_the_pipeline_does_not_have(tmp_path):
    with pytest.raises(InputError, match="places 'transformer', which the pipeline in") as refused:
        at(folder_of(tmp_path)).stored(target())
    assert str(refused.value).endswith("does not have; it has vae")


# ------------------------------------------------------------------------------------ arguments


class Own(FluxPipeline):
    def __init__(self, scheduler, vae, transformer, strength=1.0):
        pass


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, None),
        ({"cache_dir": "x", "variant": "fp16", "dtype": "float16", "strength": 0.5}, None),
        ({"scheduler": object(), "revision": "abc"}, None),
        ({"nonsense": None}, None),
        ({"vae": object()}, "vae= is a model that the map places"),
        ({"strength": 1, "nonsense": 1}, "nonsense= goes to no part of a Own"),
        ({"self": 1}, "self= goes to no part"),
    ],
)
def test_which_arguments_a_pipeline_takes(given, words):
    if words is None:
        refuse_unknown(given, Own, COMPONENTS)
        return
    with pytest.raises(InputError) as refused:
        refuse_unknown(given, Own, COMPONENTS)
    assert str(refused.value).startswith(words)
    if "goes to no part" in words:
        assert str(refused.value).endswith("use_safetensors, scheduler, strength")


def test_which_argument_goes_where(tmp_path):
    given = {
        "cache_dir": "x",
        "token": "t",
        "variant": "fp16",
        "use_safetensors": True,
        "dtype": "float16",
        "revision": "abc",
        "scheduler": "s",
    }
    assert hub_arguments(given) == {"cache_dir": "x", "token": "t"}
    assert own_arguments(given) == {"variant": "fp16", "use_safetensors": True, "scheduler": "s"}
    plain = {"output_loading_info": True}
    assert component_arguments({}, tmp_path, "diffusers") == plain
    safe = {**plain, "use_safetensors": True}
    assert component_arguments(given, tmp_path, "diffusers") == safe
    assert component_arguments(given, tmp_path, "transformers") == {**safe, "weights_only": True}
    assert library_of(FluxPipeline) == "diffusers"


@pytest.mark.parametrize(
    ("file", "has"),
    [
        ("model.fp16.safetensors", True),
        ("model.fp16-00001-of-00002.safetensors", True),
        ("pytorch_model.fp16.bin", True),
        ("model.safetensors.index.fp16.json", True),
        ("model.safetensors", False),
        ("model.fp16x.safetensors", False),
        ("modelfp16.safetensors", False),
        ("model.fp16.txt", False),
    ],
)
def test_a_variant_is_asked_for_where_a_model_has_files_of_it(tmp_path, file, has):
    (tmp_path / file).write_bytes(b"")
    found = component_arguments({"variant": "fp16"}, tmp_path, "diffusers")
    assert ("variant" in found) is has
    assert "variant" not in component_arguments({}, tmp_path, "diffusers")


def test_a_pipeline_that_is_not_there_is_refused_before_anything_is_read(tmp_path):
    content = target("NoSuchPipeline").content
    with pytest.raises(InputError, match="upgrade diffusers"):
        devplan.load(tmp_path, content, devices={"cuda:0": "cpu", "cuda:1": "cpu"})
