"""What `load` looks at before a byte of a pipeline is loaded: machine, model, files, arguments."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

import devplan
from devplan.catalog import models as catalogue
from devplan.core.environment import ModelFacts
from devplan.core.errors import DeviceMapError, InputError
from devplan.environment.model_facts import facts_of
from devplan.environment.reading import library_versions
from devplan.loader import loading, pipelines
from devplan.mapfile.read import read_map
from devplan.models.files import whole_config
from devplan.models.from_catalog import resolve_catalogue
from devplan.models.resolution import resolve
from devplan.rules.environment import compare_model
from tests.environment.machines import card, machine
from tests.pipelines.making import made, whole
from tests.pipelines.maps import STAND_INS


@pytest.fixture
def read(monkeypatch):
    """Component -> the device map that it was to be read with; nothing is read."""
    calls = {}

    def called(kind, folder, part, arguments):
        calls[folder.name] = part.hf_device_map
        raise StopIteration

    monkeypatch.setattr(pipelines, "_read", called)
    return calls


@pytest.fixture
def on(monkeypatch):
    """``on(card(0, 1), ...)``: a machine with these cards."""

    def make(*cards):
        here = machine(*cards, versions=library_versions())
        monkeypatch.setattr(loading, "read_here", lambda _: here)

    return make


# ------------------------------------------------------------------------------ the machine


def test_no_gpu(split_flux, on, read):
    on()
    with pytest.raises(DeviceMapError, match="torch sees no GPU here"):
        devplan.load(map=split_flux)
    assert not read


@pytest.fixture
def unequal(split_flux):
    """The map as of 24 GiB and 12 GiB, each rather full."""
    map_file, sizes = read_map(split_flux), {"cuda:0": 24 * 2**30, "cuda:1": 12 * 2**30}
    cards = tuple(
        replace(c, capacity_bytes=sizes[c.device], name=f"{sizes[c.device] >> 30}GiB")
        for c in map_file.machine.cards
    )
    loads = tuple(
        replace(load, capacity_bytes=sizes[load.device], cache_bytes=sizes[load.device] * 7 // 10)
        for load in map_file.loads
    )
    return replace(map_file, machine=replace(map_file.machine, cards=cards), loads=loads)


def test_cards_in_another_order(unequal, on, read, caplog):
    on(card(0, 12), card(1, 24))
    with pytest.raises(DeviceMapError, match="remap=True"):
        devplan.load(map=unequal)
    assert not read
    with pytest.raises(StopIteration):
        devplan.load(map=unequal, remap=True)
    ((name, found),) = read.items()
    moves = {"cuda:0": 1, "cuda:1": 0}
    assert found[""] == moves[unequal.device_map[name]]
    assert any("cuda:0 of the map is cuda:1 here" in r.getMessage() for r in caplog.records)


def test_remap_and_stand_ins(split_flux, read):
    with pytest.raises(InputError, match="give one"):
        devplan.load(map=split_flux, remap=True, devices=STAND_INS)
    assert not read


# -------------------------------------------------------------------------------- the model


def spoilt(saved, tmp_path, file, **changes):
    folder = shutil.copytree(saved("flux"), tmp_path / "copy")
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_the_pipeline_that_the_map_was_made_for(split_flux, caplog):
    devplan.load(map=split_flux, devices=STAND_INS)
    assert not [r for r in caplog.records if r.levelname == "WARNING" and r.name == "devplan"]


def test_another_configuration_of_a_component_is_warned_of(
    split_flux, saved, tmp_path, caplog, read
):
    folder = spoilt(saved, tmp_path, "vae/config.json", scaling_factor=2.0)
    with pytest.raises(StopIteration):
        devplan.load(folder, split_flux, devices=STAND_INS)
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert any("DP509 this model's configuration differs" in line for line in said)


def test_another_size_of_a_component_is_refused(split_flux, saved, tmp_path, read):
    folder = spoilt(saved, tmp_path, "transformer/config.json", num_layers=2)
    with pytest.raises(DeviceMapError, match="parameters, the map is for"):
        devplan.load(folder, split_flux, devices=STAND_INS)
    assert not read


def test_another_class_is_refused(split_flux, saved, tmp_path, read):
    folder = spoilt(saved, tmp_path, "model_index.json", _class_name="FluxImg2ImgPipeline")
    with pytest.raises(DeviceMapError, match="is a FluxImg2ImgPipeline, the map is for a FluxPipe"):
        devplan.load(folder, split_flux, devices=STAND_INS)
    assert not read


def test_a_folder_that_holds_no_pipeline(split_flux, saved):
    with pytest.raises(InputError, match=r"it has no model_index\.json"):
        devplan.load(saved("flux") / "vae", split_flux, devices=STAND_INS)


def test_doctor_knows_the_class_of_a_pipeline(saved, split_flux):
    facts = facts_of(resolve(str(saved("flux"))))
    assert facts.is_class_installed
    assert not list(compare_model(read_map(split_flux), facts, ""))


def test_a_map_of_the_catalogue_is_compared_by_the_values_that_the_catalogue_has(split_flux):
    source = resolve_catalogue(catalogue.find_catalog_model("black-forest-labs/FLUX.1-dev"))
    map_file = read_map(split_flux)
    identity = replace(map_file.model, id=source.id, config_hash=source.config_hash)
    map_file = replace(map_file, model=identity)

    def found(**vae):
        config = whole_config(source)
        config["components"] = {
            **config["components"],
            "vae": {**config["components"]["vae"], "more": 1, **vae},
        }
        facts = ModelFacts(id="here", config_hash="other", config=config)
        return [each.message for each in compare_model(map_file, facts, "")]

    assert found() == []
    (said,) = found(act_fn="relu")
    assert "components.vae.act_fn is 'relu', not 'silu'" in said


# -------------------------------------------------------------------------------- the files


@pytest.mark.parametrize(
    ("component", "file"),
    [
        ("text_encoder_2", "model.safetensors"),
        ("vae", "diffusion_pytorch_model.safetensors"),
    ],
)
def test_a_damaged_file_is_found_before_any_model_is_read(
    split_flux, saved, tmp_path, read, component, file
):
    folder = shutil.copytree(saved("flux"), tmp_path / "copy")
    path = folder / component / file
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=component) as refused:
        devplan.load(folder, split_flux, devices=STAND_INS)
    assert "\n" not in str(refused.value) and not read


def test_a_model_without_its_file(split_flux, saved, tmp_path, read):
    folder = shutil.copytree(saved("flux"), tmp_path / "copy")
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(InputError, match="transformer holds no weights that diffusers would load"):
        devplan.load(folder, split_flux, devices=STAND_INS)
    assert not read


def test_a_variant_is_that_of_each_model_that_has_it(split_flux, saved, tmp_path):
    """The files without the variant are damaged, and are not looked at."""
    folder = shutil.copytree(saved("flux"), tmp_path / "copy")
    for path in (folder / "transformer", folder / "text_encoder"):
        (file,) = path.glob("*.safetensors")
        shutil.copy(file, file.with_suffix(".fp16.safetensors"))
        file.write_bytes(b"damaged")
    pipeline = devplan.load(folder, split_flux, devices=STAND_INS, variant="fp16")
    assert torch.equal(made(pipeline, "flux"), whole(saved("flux"), "flux"))


# ---------------------------------------------------------------------------- the arguments


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"attn_implementation": "sdpa"}, "attn_implementation= goes to no part of a FluxPipeline"),
        ({"output_loading_info": True}, "output_loading_info= goes to no part"),
        ({"custom_pipeline": "x"}, "custom_pipeline= goes to no part"),
        ({"transformer": object()}, r"transformer= is a model that the map places.*apply"),
        ({"device_map": "balanced"}, "the map already places every tensor"),
        ({"torch_dtype": torch.float16}, "torch_dtype=float16 is not the float32"),
        ({"quantization_config": {"quant_method": "torchao"}}, "torchao does not go with"),
    ],
)
def test_what_would_be_ignored_or_contradicts_the_map_is_refused(split_flux, read, given, said):
    with pytest.raises(InputError, match=said) as refused:
        devplan.load(map=split_flux, devices=STAND_INS, **given)
    assert "\n" not in str(refused.value) and not read


def test_a_configuration_that_quantizes_a_pipeline(split_flux):
    from diffusers import PipelineQuantizationConfig

    config = PipelineQuantizationConfig(
        quant_backend="bitsandbytes_8bit", quant_kwargs={"load_in_8bit": True}
    )
    with pytest.raises(InputError, match="PipelineQuantizationConfig does not go with"):
        devplan.load(map=split_flux, devices=STAND_INS, quantization_config=config)


def test_what_the_map_says_too_and_what_the_class_takes(split_flux):
    """A component that no map places may be given."""
    from diffusers import FlowMatchHeunDiscreteScheduler

    scheduler = FlowMatchHeunDiscreteScheduler()
    pipeline = devplan.load(
        map=split_flux, devices=STAND_INS, scheduler=scheduler, torch_dtype=torch.float32
    )
    assert pipeline.scheduler is scheduler
