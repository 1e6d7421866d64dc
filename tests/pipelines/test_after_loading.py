"""What `load` puts on a pipeline, its folder of weights on disk, and what is there already."""

from __future__ import annotations

import gc
import logging
import tempfile
from dataclasses import replace

import pytest
import torch
from torch import nn

import devplan
from devplan import runtime as live
from devplan.core.errors import DeviceMapError, InputError
from devplan.core.findings import CheckResult
from devplan.core.types import Verification
from devplan.diagnosis.attached import AttachedModel, attach_diagnosis, detach_diagnosis
from devplan.diagnosis.from_exception import report_of
from devplan.loader.auditing import audit_line
from devplan.loader.offloading import DRAFT_PREFIX
from devplan.mapfile.read import read_map
from devplan.runtime.advice import PatchAdvice
from devplan.runtime.caching import transfer_cache_of
from devplan.runtime.patching import patched_embeddings
from devplan.virtual.hooks import is_dispatched
from tests.pipelines.making import made, whole
from tests.pipelines.maps import STAND_INS, plain
from tests.pipelines.tiny import tiny_pipeline

MODELS = ("text_encoder", "text_encoder_2", "transformer", "vae")
ONE = {"cuda:0": "cpu"}


# ------------------------------------------------------------- cache, patch and diagnosis


def test_tensors_are_moved_once_where_it_is_asked_for(split_flux, saved):
    pipeline = devplan.load(map=split_flux, devices=STAND_INS, cache_transfers=True)
    other = devplan.load(map=split_flux, devices=STAND_INS)
    for name in MODELS:
        assert transfer_cache_of(getattr(pipeline, name)) is not None
        assert transfer_cache_of(getattr(other, name)) is None
    assert torch.equal(made(pipeline, "flux"), made(other, "flux"))


def test_a_map_that_was_not_proven_is_run_to_see_whether_it_needs_the_patch(split_flux, caplog):
    verification = Verification(status="unverified", detail="written by hand")
    map_file = replace(read_map(split_flux), verification=verification)
    with caplog.at_level(logging.INFO, logger="devplan"):
        devplan.load(map=map_file, devices=STAND_INS)
    assert any("no embedding needs a patch" in r.getMessage() for r in caplog.records)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="devplan"):
        devplan.load(map=map_file, devices=STAND_INS, patch_embeddings=False)
    assert not any("needs a patch" in r.getMessage() for r in caplog.records)


def test_the_patch_goes_to_the_model_that_has_the_embedding(split_flux, monkeypatch):
    found = CheckResult(map_name="", model="", class_name="", findings=())
    advice = PatchAdvice(names=("text_encoder_2.shared",), device="cuda:0", before=found)
    monkeypatch.setattr(live, "needed_patch", lambda *_, **__: advice)
    verification = Verification(status="unverified", detail="written by hand")
    map_file = replace(read_map(split_flux), verification=verification)
    pipeline = devplan.load(map=map_file, devices=STAND_INS)
    (patched,) = patched_embeddings(pipeline.text_encoder_2)
    assert (patched.name, patched.device) == ("shared", "cpu")
    assert not patched_embeddings(pipeline.text_encoder)


def test_what_is_of_one_model_says_so(split_flux, saved):
    pipeline = plain(saved("flux"))
    for call in (devplan.cache_transfers, devplan.patch_embeddings):
        with pytest.raises(InputError, match="FluxPipeline is not a torch module; give"):
            call(pipeline)


def without_values(module: nn.Module) -> None:
    """Its weight is on meta, as one that was never loaded."""
    module.weight = nn.Parameter(torch.empty_like(module.weight, device="meta"))


@pytest.mark.parametrize(
    ("component", "module"),
    [
        ("text_encoder_2", "encoder.block.1.layer.0.layer_norm"),
        ("transformer", "transformer_blocks.2.attn.norm_q"),
        ("vae", "decoder.mid_block.resnets.0.norm1"),
    ],
)
def test_every_model_explains_its_own_failures(split_flux, component, module):
    """A pipeline calls the first two as they are, and ``decode`` of the third."""
    pipeline = devplan.load(map=split_flux, devices=STAND_INS, diagnose=True)
    without_values(getattr(pipeline, component).get_submodule(module))
    with pytest.raises((RuntimeError, NotImplementedError)) as failed:
        made(pipeline, "flux")
    report = report_of(failed.value)
    assert report.module == f"{component}.{module}"
    assert report.entry.file == split_flux.as_posix()
    line = split_flux.read_text().splitlines()[report.entry.line - 1]
    assert line.strip().startswith(f"{report.entry.key}:")
    assert report.entry.key in read_map(split_flux).device_map
    told = "\n".join(failed.value.__notes__)
    assert f"{split_flux.as_posix()}:{report.entry.line}: {report.entry.key}" in told


def test_a_pipeline_may_be_watched_and_attached_to_as_it_is(split_flux):
    pipeline = devplan.load(map=split_flux, devices=STAND_INS)
    without_values(pipeline.transformer.transformer_blocks[2].attn.norm_q)
    with pytest.raises(RuntimeError) as failed, devplan.diagnose(pipeline, split_flux):
        made(pipeline, "flux")
    watched = report_of(failed.value)
    assert "the model is transformer of FluxPipeline" in watched.notes
    attach_diagnosis(pipeline, split_flux)
    with pytest.raises(RuntimeError) as failed:
        made(pipeline, "flux")
    for report in (watched, report_of(failed.value)):
        assert report.module == "transformer.transformer_blocks.2.attn.norm_q"
        assert report.entry.key in read_map(split_flux).device_map
    detach_diagnosis(pipeline)
    assert "decode" not in vars(pipeline.vae)
    with pytest.raises(InputError, match="is not a model and holds none"):
        attach_diagnosis(object.__new__(type("Empty", (), {})))


def test_diagnosis_changes_nothing_and_is_there_where_it_is_asked_for(split_flux, saved):
    pipeline = devplan.load(map=split_flux, devices=STAND_INS, diagnose=True)
    for name, entry in [("transformer", "forward"), ("vae", "decode"), ("vae", "encode")]:
        assert isinstance(vars(getattr(pipeline, name))[entry], AttachedModel)
    assert torch.equal(made(pipeline, "flux"), whole(saved("flux"), "flux"))
    other = devplan.load(map=split_flux, devices=STAND_INS)
    assert "decode" not in vars(other.vae)


# ------------------------------------------------------------------------- weights on disk


def drafts(place):
    return list(place.glob(f"{DRAFT_PREFIX}*"))


def test_the_offload_folder_appears_when_all_is_complete(on_disk, saved, tmp_path):
    folder = tmp_path / "deep" / "offload"
    pipeline = devplan.load(map=on_disk, devices=ONE, offload_folder=folder)
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    offloaded = {
        e.partition(".")[0] for e, d in read_map(on_disk).device_map.items() if d == "disk"
    }
    assert names == offloaded and drafts(folder.parent) == []
    assert devplan.audit(pipeline, on_disk, devices=ONE).is_clean
    output = made(pipeline, "qwen-image")
    torch.testing.assert_close(output, whole(saved("qwen-image"), "qwen-image"))
    other = devplan.load(map=on_disk, devices=ONE, cache_transfers=True)
    assert torch.equal(output, made(other, "qwen-image"))


def test_without_a_name_it_lives_as_long_as_any_model_of_the_pipeline(
    on_disk, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pipeline = devplan.load(map=on_disk, devices=ONE)
    (folder,) = drafts(tmp_path)
    made(pipeline, "qwen-image")
    kept = pipeline.vae
    del pipeline
    gc.collect()
    assert drafts(tmp_path) == [folder]
    del kept
    gc.collect()
    assert drafts(tmp_path) == []


def test_a_load_that_fails_leaves_nothing(on_disk, tmp_path, monkeypatch):
    """The last model is not loaded, after the weights of others were written."""
    from devplan.loader import pipelines

    read, seen = pipelines._read, []

    def failing(kind, folder, part, arguments):
        seen.append(folder.name)
        if len(seen) == len(read_map(on_disk).model.components):
            assert list(tmp_path.rglob("*.dat"))
            raise RuntimeError("broken")
        return read(kind, folder, part, arguments)

    monkeypatch.setattr(pipelines, "_read", failing)
    with pytest.raises(RuntimeError, match="broken"):
        devplan.load(map=on_disk, devices=ONE, offload_folder=tmp_path / "offload")
    assert list(tmp_path.iterdir()) == []


def test_a_load_that_is_not_what_the_map_says_leaves_nothing(on_disk, tmp_path):
    map_file = read_map(on_disk)
    loads = tuple(replace(load, weight_bytes=1024) for load in map_file.loads)
    with pytest.raises(DeviceMapError, match="of weights and buffers, the map foretells"):
        devplan.load(
            map=replace(map_file, loads=loads), devices=ONE, offload_folder=tmp_path / "offload"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_a_pipeline_reads_is_not_replaced(on_disk, tmp_path):
    folder = tmp_path / "offload"
    pipeline = devplan.load(map=on_disk, devices=ONE, offload_folder=folder)
    with pytest.raises(InputError, match="is being read by a model that is loaded"):
        devplan.load(map=on_disk, devices=ONE, offload_folder=folder)
    del pipeline
    gc.collect()
    devplan.load(map=on_disk, devices=ONE, offload_folder=folder)


# ------------------------------------------------------------------ a pipeline that is there


def test_apply_spreads_every_model_and_computes_the_same(split_flux, saved):
    pipeline = plain(saved("flux"))
    before = made(pipeline, "flux")
    assert not devplan.audit(pipeline, split_flux, devices=STAND_INS).is_clean
    assert devplan.apply(pipeline, split_flux, devices=STAND_INS) is pipeline
    assert all(is_dispatched(getattr(pipeline, name)) for name in MODELS)
    assert devplan.audit(pipeline, split_flux, devices=STAND_INS).is_clean
    torch.testing.assert_close(made(pipeline, "flux"), before)


def test_apply_writes_one_folder_and_takes_a_pipeline_apart_again(on_disk, saved, tmp_path):
    pipeline = plain(saved("qwen-image"))
    before = made(pipeline, "qwen-image")
    folder = tmp_path / "offload"
    devplan.apply(pipeline, on_disk, devices=ONE, offload_folder=folder)
    assert folder.is_dir() and drafts(tmp_path) == []
    torch.testing.assert_close(made(pipeline, "qwen-image"), before)
    devplan.apply(pipeline, {"": "cpu"})
    assert not any(p.is_meta for p in pipeline.vae.parameters())
    torch.testing.assert_close(made(pipeline, "qwen-image"), before)


def test_a_bare_map_of_a_pipeline(saved):
    pipeline = plain(saved("flux"))
    before = made(pipeline, "flux")
    bare = {"": "cpu", "transformer": "disk", "text_encoder_2.encoder.block": "disk"}
    devplan.apply(pipeline, bare)
    assert all(p.is_meta for p in pipeline.transformer.parameters())
    assert devplan.audit(pipeline, bare).is_clean
    torch.testing.assert_close(made(pipeline, "flux"), before)


def test_an_audit_says_which_model_is_elsewhere(split_flux):
    pipeline = devplan.load(map=split_flux, devices=STAND_INS)
    without_values(pipeline.vae.decoder.conv_out)
    (difference,) = devplan.audit(pipeline, split_flux, devices=STAND_INS).findings
    assert (difference.code, difference.module) == ("meta", "vae.decoder.conv_out.weight")
    line = audit_line(difference)
    assert f"{split_flux.as_posix()}:" in line
    assert "vae: decoder.conv_out.weight is on meta" in line


def test_bytes_are_those_of_all_models_together(split_flux):
    pipeline = devplan.load(map=split_flux, devices=STAND_INS)
    (use,) = devplan.audit(pipeline, split_flux, devices=STAND_INS).uses
    loads = read_map(split_flux).loads
    assert use.predicted_bytes == sum(load.weight_bytes + load.buffer_bytes for load in loads)
    assert use.placed_bytes == pytest.approx(use.predicted_bytes, rel=0.01)


@pytest.mark.parametrize(
    ("device_map", "said"),
    [
        ({"": "cpu", "prior": "cpu"}, "FluxPipeline has no model 'prior'; it has vae"),
        ({"": "cpu", "vae.coder": "cpu"}, "has no module 'coder'"),
        ({"transformer": "cpu"}, "tensors of AutoencoderKL are in no entry of the map"),
    ],
)
def test_a_map_of_another_pipeline(saved, device_map, said):
    pipeline = plain(saved("flux"))
    with pytest.raises(InputError, match=said) as refused:
        devplan.apply(pipeline, device_map)
    assert "\n" not in str(refused.value)
    assert not any(is_dispatched(getattr(pipeline, name)) for name in MODELS)


def test_what_is_no_model(split_flux):
    for call in (devplan.apply, devplan.audit):
        with pytest.raises(InputError, match="is not a torch module and no diffusers pipeline"):
            call([1], split_flux)


def test_a_model_that_no_map_speaks_of_is_warned_of(split_flux, caplog):
    pipeline = tiny_pipeline("flux")
    content = read_map(split_flux)
    names = tuple(name for name in content.model.components if name != "vae")
    entries = {k: d for k, d in content.device_map.items() if not k.startswith("vae")}
    content = replace(
        content, device_map=entries, model=replace(content.model, components=names), loads=()
    )
    devplan.apply(pipeline, content, devices=STAND_INS)
    assert any("does not mention vae" in r.getMessage() for r in caplog.records)
    assert not is_dispatched(pipeline.vae)


def test_inputs_enter_where_the_pipeline_makes_its_latents(split_flux, saved):
    """On meta, where tensors can be told from others."""
    pipeline = plain(saved("flux"))
    x = {"image": torch.ones(2)}
    assert devplan.to_main(pipeline, x)["image"].device.type == "cpu"
    devplan.load(map=split_flux, devices=STAND_INS)
    elsewhere = devplan.load(map=split_flux, devices={"cuda:0": "meta", "cuda:1": "meta"})
    assert devplan.to_main(elsewhere, x)["image"].is_meta
