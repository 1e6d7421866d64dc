"""The offload folder is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import copy
import gc
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import devplan
from devplan.core.errors import DeviceMapError, InputError
from devplan.loader.offloading import DRAFT_PREFIX, LOCK, offload_folder
from devplan.mapfile.read import read_map
from tests.loader.checkpoints import CPU_AND_DISK, Checkpoint, assert_same, layers_on, outputs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def load(experts):
    def load(folder=None, **more):
        return devplan.load(
            experts.folder, experts.map, devices=CPU_AND_DISK, offload_folder=folder, **more
        )

    return load


def drafts(place: Path) -> list[Path]:
    return list(place.glob(f"{DRAFT_PREFIX}*"))


def is_whole(folder: Path, experts: Checkpoint) -> bool:
    """Two tensors of each layer are fused while they are loaded, and so written anew."""
    layers = layers_on(experts, "cuda:1") + layers_on(experts, "cuda:2")
    return len(list(folder.glob("*.safetensors"))) == 2 * len(layers)


def test_it_appears_when_the_model_is_complete(load, experts, tmp_path):
    folder = tmp_path / "deep" / "offload"
    model = load(folder)
    assert is_whole(folder, experts)
    assert drafts(folder.parent) == []
    assert_same(outputs(model, experts.inputs), outputs(experts.whole(), experts.inputs))


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()], ids=repr)
def test_a_load_that_fails_leaves_nothing(load, tmp_path, monkeypatch, error):
    """It fails after weights were written."""
    from transformers.integrations import accelerate as integration

    written = []
    write = integration.save_file

    def fail(tensors, path, *rest, **more):
        if len(written) == 1:
            raise error
        written.append(path)
        write(tensors, path, *rest, **more)

    monkeypatch.setattr(integration, "save_file", fail)
    with pytest.raises(type(error)):
        load(tmp_path / "deep" / "offload")
    assert len(written) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full(load, tmp_path, monkeypatch):
    """As safetensors says it."""
    from safetensors import SafetensorError
    from transformers.integrations import accelerate as integration

    def fail(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (28)")

    monkeypatch.setattr(integration, "save_file", fail)
    with pytest.raises(InputError, match="is full") as refused:
        load(tmp_path / "offload")
    assert "\n" not in str(refused.value) and list(tmp_path.iterdir()) == []


def test_a_load_that_is_not_what_the_map_says_leaves_nothing(experts, tmp_path):
    map_file = read_map(experts.map)
    loads = tuple(replace(load, weight_bytes=1024) for load in map_file.loads)
    with pytest.raises(DeviceMapError):
        devplan.load(
            experts.folder,
            replace(map_file, loads=loads),
            devices=CPU_AND_DISK,
            offload_folder=tmp_path / "offload",
        )
    assert list(tmp_path.iterdir()) == []


def test_without_a_name_it_goes_with_the_model(load, experts, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = load()
    (folder,) = drafts(tmp_path)
    assert is_whole(folder, experts)
    # Weights are nobody else's business, in a place that everybody may read.
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / LOCK).stat().st_mode & 0o777 == 0o600
    outputs(model, experts.inputs)
    del model
    gc.collect()
    assert drafts(tmp_path) == []


def test_weights_that_can_be_read_where_they_are_are_not_written(tied, tmp_path):
    folder = tmp_path / "offload"
    model = devplan.load(tied.folder, tied.map, devices=CPU_AND_DISK, offload_folder=folder)
    assert list(tmp_path.iterdir()) == []
    assert_same(outputs(model, tied.inputs), outputs(tied.whole(), tied.inputs))


def test_a_folder_of_somebody_elses_is_refused(load, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match=r"holds 1 files that devplan\.load did not"):
        load(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(load, tmp_path):
    path = tmp_path / "offload"
    path.write_text("")
    with pytest.raises(InputError, match="is a file"):
        load(path)


def test_an_empty_folder_is_taken(load, experts, tmp_path):
    folder = tmp_path / "offload"
    folder.mkdir()
    load(folder)
    assert is_whole(folder, experts)


def test_a_folder_that_a_model_reads_is_not_replaced(load, experts, tmp_path):
    folder = tmp_path / "offload"
    model = load(folder)
    with pytest.raises(InputError, match="is being read by a model that is loaded"):
        load(folder)
    assert_same(outputs(model, experts.inputs), outputs(experts.whole(), experts.inputs))
    del model
    gc.collect()
    again = load(folder)
    assert_same(outputs(again, experts.inputs), outputs(experts.whole(), experts.inputs))
    assert drafts(tmp_path) == []


def test_apply_writes_it_whole_too(experts, tmp_path):
    folder = tmp_path / "offload"
    model = experts.whole()
    before = outputs(model, experts.inputs)
    devplan.apply(model, experts.map, devices=CPU_AND_DISK, offload_folder=folder)
    assert (folder / "index.json").exists() and drafts(tmp_path) == []
    assert_same(outputs(model, experts.inputs), before)


def test_what_is_left_of_a_killed_load_is_swept(load, tmp_path):
    left = tmp_path / f"{DRAFT_PREFIX}0123"
    left.mkdir()
    (left / LOCK).touch()
    (left / "half.safetensors").write_bytes(b"half")
    load(tmp_path / "offload")
    assert drafts(tmp_path) == []


def test_a_load_that_is_still_running_is_not_swept(tmp_path):
    with offload_folder(tmp_path / "one") as first, offload_folder(tmp_path / "two"):
        assert first.draft.exists()


KILLED = """
import sys, time
from transformers.integrations import accelerate as integration
import devplan
write = integration.save_file
def slow(tensors, path, *rest, **more):
    write(tensors, path, *rest, **more)
    print("written", flush=True)
    time.sleep(60)
integration.save_file = slow
devices = {"cuda:0": "cpu", "cuda:1": "disk", "cuda:2": "disk"}
devplan.load(sys.argv[2], sys.argv[1], devices=devices, offload_folder=sys.argv[3])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_a_load_that_is_killed(load, experts, tmp_path):
    folder = tmp_path / "offload"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, experts.map, experts.folder, folder],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout.readline() == "written\n"
    process.kill()
    process.wait()
    assert not folder.exists() and len(drafts(tmp_path)) == 1
    load(folder)
    assert drafts(tmp_path) == [] and is_whole(folder, experts)


# ------------------------------------------------------------------------ two loads, one folder


@pytest.mark.parametrize("other", ["relative", "link", "dotted"])
def test_two_loads_that_overlap(load, tmp_path, monkeypatch, other):
    """By whatever path the second names the folder, it is refused while the first is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "offload")
    named = {"relative": "offload", "link": tmp_path / "link", "dotted": "deep/../offload"}[other]
    with offload_folder(tmp_path / "offload") as first:
        (first.draft / "a.safetensors").touch()
        with pytest.raises(InputError, match="is being written by another load"):
            load(named)
        assert first.draft.exists()
    model = load(named)
    assert (tmp_path / "offload").is_dir() and (tmp_path / "link").is_symlink()
    del model
    gc.collect()


def test_the_later_of_two_that_end_together_is_refused(tmp_path):
    """Where claims cannot tell (no locks on names): what is read already is not replaced."""
    from devplan.loader.offloading import _replace

    with offload_folder(tmp_path / "offload") as first:
        (first.draft / "a.safetensors").write_text("first")
        late = tmp_path / "late"
        late.mkdir()
        (late / "a.safetensors").write_text("second")
        model = Model()
        first.keep(model)
        with pytest.raises(InputError, match="is being read by a model"):
            _replace(late, tmp_path / "offload")
    assert (tmp_path / "offload" / "a.safetensors").read_text() == "first"


class Model(torch.nn.Module):
    """One without weights that wait."""


def test_a_folder_inside_another_is_refused(load, tmp_path):
    model = load(tmp_path / "offload")
    with pytest.raises(InputError, match="lies inside"):
        load(tmp_path / "offload" / "inner")
    del model


def test_files_of_others_in_a_folder_of_ours_are_kept(load, tmp_path):
    folder = tmp_path / "offload"
    model = load(folder)
    del model
    gc.collect()
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.safetensors").write_text("precious")
    with pytest.raises(InputError, match=r"holds 1 files that devplan\.load did not write"):
        load(folder)
    assert (folder / "notes" / "mine.safetensors").read_text() == "precious"


def test_a_draft_with_files_of_others_is_kept(load, tmp_path):
    left = tmp_path / f"{DRAFT_PREFIX}0123"
    left.mkdir()
    (left / LOCK).touch()
    (left / "thesis.tex").write_text("precious")
    (tmp_path / f"{DRAFT_PREFIX}link").symlink_to(left)
    load(tmp_path / "offload")
    assert (left / "thesis.tex").read_text() == "precious"


def test_a_copy_of_the_model_holds_the_folder(load, experts, tmp_path):
    folder = tmp_path / "offload"
    model = load(folder)
    copied = copy.deepcopy(model)
    del model
    gc.collect()
    with pytest.raises(InputError, match="is being read"):
        load(folder)
    assert_same(outputs(copied, experts.inputs), outputs(experts.whole(), experts.inputs))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_does_not_take_the_folder_along(load, experts, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = load()
    (folder,) = drafts(tmp_path)
    child = os.fork()
    if child == 0:
        del model
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert is_whole(folder, experts)
    outputs(model, experts.inputs)


LIVES = """
import sys
import devplan
devices = {"cuda:0": "cpu", "cuda:1": "disk", "cuda:2": "disk"}
model = devplan.load(sys.argv[2], sys.argv[1], devices=devices, offload_folder=sys.argv[3])
print("loaded", flush=True)
sys.stdin.read()
"""


def test_a_model_of_another_process_holds_the_folder(load, experts, tmp_path):
    folder = tmp_path / "offload"
    process = subprocess.Popen(
        [sys.executable, "-c", LIVES, experts.map, experts.folder, folder],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout.readline() == "loaded\n"
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(InputError, match="is being read by a model that is loaded"):
        load(folder)
    assert sorted(path.name for path in folder.iterdir()) == before
    process.kill()
    process.wait()
    model = load(folder)
    assert_same(outputs(model, experts.inputs), outputs(experts.whole(), experts.inputs))
    assert [path.name for path in tmp_path.iterdir()] == ["offload"]
