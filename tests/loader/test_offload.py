"""The offload folder is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

import devplan
from devplan.errors import DeviceMapError, InputError
from devplan.loader.offloading import DRAFT_PREFIX, LOCK, offload_folder
from devplan.mapfile import read_map
from tests.loader.checkpoints import CPU_AND_DISK, Checkpoint, assert_same, layers_on, outputs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def load(experts):
    def load(folder=None, **more):
        return devplan.load(
            experts.map, experts.folder, devices=CPU_AND_DISK, offload_folder=folder, **more
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
            replace(map_file, loads=loads),
            experts.folder,
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
    model = devplan.load(tied.map, tied.folder, devices=CPU_AND_DISK, offload_folder=folder)
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
devplan.load(sys.argv[1], sys.argv[2], devices=devices, offload_folder=sys.argv[3])
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
