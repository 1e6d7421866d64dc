"""A pipeline's index is data: it picks classes from a list, and components are folders below."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("diffusers")

import devplan as api
from devplan.core.errors import InputError
from devplan.models.build import build_skeleton
from devplan.models.pipeline_module import component_class
from devplan.models.resolution import resolve
from tests.pipelines.conftest import saved, split_flux, studied

__all__ = ["saved", "split_flux", "studied"]

CPU = {"cuda:0": "cpu", "cuda:1": "cpu"}


@pytest.fixture
def flux(saved, here, canary) -> Path:
    """A tiny pipeline, to be spoilt, with a package whose name begins like a library's."""
    folder = here / "flux"
    shutil.copytree(saved("flux"), folder)
    for name in ("transformers_evil", "diffusers_evil"):
        (here / f"{name}.py").write_text(canary.code() + "class CLIPTextModel: pass\n")
    return folder


def spoil(folder: Path, **changes) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


FOREIGN = [
    ("transformers_evil", "CLIPTextModel"),
    ("diffusers_evil", "CLIPTextModel"),
    ("transformers.models.clip.modeling_clip", "CLIPTextModel"),
    ("transformers.utils", "logging"),
    ("diffusers.pipelines.flux", "FluxPipeline"),
    ("pipelines.flux", "FluxPipeline"),
    ("diffusers_modules.local.evil", "Evil"),
    ("transformers_modules", "Evil"),
    ("os", "system"),
    ("subprocess", "Popen"),
    ("builtins", "type"),
    ("pathlib", "Path"),
    ("", "CLIPTextModel"),
    (".", "CLIPTextModel"),
    ("..flux", "FluxPipeline"),
    ("transformers ", "CLIPTextModel"),
    ("Transformers", "CLIPTextModel"),
    ("pipeline_utils", "DiffusionPipeline"),
    ("onnxruntime.training", "ORTModule"),
]
NO_COMPONENTS = [
    ("transformers", "pipeline"),
    ("transformers", "Trainer"),
    ("transformers", "TrainingArguments"),
    ("transformers", "AutoModel"),
    ("transformers", "PreTrainedModel"),
    ("transformers", "CLIPTextConfig"),
    ("transformers", "models.clip.CLIPTextModel"),
    ("transformers", "__class__"),
    ("transformers", "_LazyModule"),
    ("transformers", "utils"),
    ("transformers", ""),
    ("diffusers", "FluxPipeline"),
    ("diffusers", "DiffusionPipeline"),
    ("diffusers", "ModelMixin"),
    ("diffusers", "ConfigMixin"),
    ("diffusers", "OnnxRuntimeModel"),
    ("diffusers", "DDIMSchedulerOutput"),
    ("stable_diffusion", "StableDiffusionPipeline"),
    ("stable_diffusion", "torch"),
]


@pytest.mark.parametrize("component", ["text_encoder", "scheduler", "tokenizer"])
@pytest.mark.parametrize(("library", "class_name"), FOREIGN + NO_COMPONENTS)
def test_a_class_that_is_no_component_is_refused(flux, canary, library, class_name, component):
    spoil(flux, **{component: [library, class_name]})
    before = set(sys.modules)
    with pytest.raises(InputError, match=r"flux/\w+ is a .* of .*; .*model_index\.json"):
        build_skeleton(resolve(str(flux)))
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert not new & {"transformers_evil", "diffusers_evil", "subprocess", "onnxruntime"}
    assert not canary.has_sung


@pytest.mark.parametrize(
    "value",
    [["transformers"], ["transformers", "CLIPTextModel", "x"], [None, "CLIPTextModel"], ["os", 1]],
)
def test_a_component_has_a_library_and_a_class(flux, value):
    spoil(flux, text_encoder=value)
    with pytest.raises(InputError, match=r"'text_encoder' is .* write its library and class"):
        resolve(str(flux))


@pytest.mark.parametrize("name", ["../outside", "/tmp/x", "a/b", ".", "..", "C:x", "a\\b", "", " "])
def test_a_component_is_a_folder_below(flux, name):
    spoil(flux, **{name: ["transformers", "CLIPTextModel"]})
    with pytest.raises(InputError, match="not a name of a component"):
        resolve(str(flux))


@pytest.mark.parametrize(
    "class_name",
    ["DiffusionPipeline", "FluxTransformer2DModel", "logging", "__file__", "os.x"],
)
def test_the_whole_is_a_pipeline(flux, class_name):
    spoil(flux, _class_name=class_name)
    with pytest.raises(InputError, match="which is not a pipeline of diffusers"):
        build_skeleton(resolve(str(flux)))


@pytest.mark.parametrize(
    ("library", "class_name"),
    [
        ("transformers", "CLIPTextModel"),
        ("transformers", "CLIPTokenizer"),
        ("transformers", "T5TokenizerFast"),
        ("transformers", "CLIPImageProcessor"),
        ("transformers", "ClapFeatureExtractor"),
        ("transformers", "Qwen2VLProcessor"),
        ("diffusers", "AutoencoderKL"),
        ("diffusers", "FlowMatchEulerDiscreteScheduler"),
        ("diffusers", "ClassifierFreeGuidance"),
        ("stable_diffusion", "StableDiffusionSafetyChecker"),
    ],
)
def test_what_pipelines_are_made_of_is_found(library, class_name):
    try:
        assert component_class("x", library, class_name).__name__.startswith(class_name[:4])
    except InputError as error:  # a package that this one needs is not installed
        assert "not here" in str(error)


# ------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize(
    ("component", "library", "class_name"),
    [("scheduler", *FOREIGN[0]), ("tokenizer_2", "os", "system"), ("vae", *NO_COMPONENTS[1])],
)
def test_what_the_map_does_not_place_is_looked_at_too(
    flux, canary, split_flux, component, library, class_name
):
    spoil(flux, **{component: [library, class_name]})
    with pytest.raises(InputError, match=class_name):
        api.load(flux, split_flux, devices=CPU)
    assert not canary.has_sung


@pytest.mark.parametrize("file", ["tokenizer/transformers.py", "scheduler/diffusers.py", "None.py"])
def test_code_that_diffusers_would_look_for_first_is_refused(flux, canary, split_flux, file):
    (flux / file).write_text(canary.code())
    with pytest.raises(InputError, match=r"is code that comes with .*trust_remote_code=True"):
        api.load(flux, split_flux, devices=CPU)
    assert not canary.has_sung
