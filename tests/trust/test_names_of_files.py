"""What a file says of other files stays below its own folder."""

from __future__ import annotations

import json
import os
import shutil
import string
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import devplan as api
from devplan.core.errors import InputError
from devplan.models.config import is_below
from devplan.models.resolution import resolve

CARDS = ("--gpus", "1GiB,1GiB")
CPU = {"cuda:0": "cpu", "cuda:1": "cpu"}
INDEX = "model.safetensors.index.json"

OUTSIDE = {
    "above": "../{there}",
    "far above": "../../../../../../../../tmp/{there}",
    "through a folder": "x/../../{there}",
    "absolute": "{absolute}",
    "backslashes": "..\\{there}",
    "a drive": "C:\\{there}",
    "a drive without a folder": "C:{there}",
    "a share": "\\\\host\\{there}",
    "empty": "",
    "here": ".",
    "dots": "./{there}",
    "doubled": "x//{there}",
    "a zero": "a\0{there}",
}


@pytest.fixture
def folder(here, checkpoint) -> Path:
    """A checkpoint in shards, and one beside it that is somebody else's."""
    shutil.copytree(checkpoint, here / "model")
    shutil.copytree(checkpoint, here / "secret")
    return here / "model"


def redirect(folder: Path, name: str) -> None:
    """Write one shard of the index under another name."""
    secret = sorted((folder.parent / "secret").glob("*.safetensors"))[0]
    there = f"secret/{secret.name}"
    text = name.format(there=there, absolute=secret.absolute())
    index = json.loads((folder / INDEX).read_text())
    first = min(index["weight_map"].values())
    renamed = {k: text if v == first else v for k, v in index["weight_map"].items()}
    (folder / INDEX).write_text(json.dumps({**index, "weight_map": renamed}))


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_shard_outside_the_folder_is_refused(refused, folder, name):
    redirect(folder, OUTSIDE[name])
    line = refused("suggest", folder, *CARDS)
    assert f"{INDEX} names the file" in line
    assert "not below its own folder" in line


@pytest.mark.parametrize("name", OUTSIDE)
def test_it_is_refused_before_it_is_loaded(devplan, folder, name):
    assert devplan("suggest", folder, *CARDS, "-o", "map.yaml").status == 0
    redirect(folder, OUTSIDE[name])
    with pytest.raises(InputError, match="not below its own folder"):
        api.load(map="map.yaml", devices=CPU)


def test_a_configuration_names_no_weights_elsewhere(devplan, folder):
    assert devplan("suggest", folder, *CARDS, "-o", "map.yaml").status == 0
    path = folder / "config.json"
    weights = "../secret/model.safetensors"
    path.write_text(json.dumps({**json.loads(path.read_text()), "transformers_weights": weights}))
    with pytest.raises(InputError, match="not below its own folder"):
        api.load(map="map.yaml", devices=CPU)


def test_a_link_in_the_folder_is_followed(devplan, folder):
    """The cache of huggingface_hub is made of links to files elsewhere."""
    for path in folder.glob("*.safetensors"):
        path.unlink()
        os.symlink(folder.parent / "secret" / path.name, path)
    assert devplan("suggest", folder, *CARDS, "-o", "-").status == 0


@pytest.mark.parametrize("text", ["org/name/../..", "org/name/a/../b", "org/name@../../x"])
def test_an_address_stays_in_its_repository(text):
    with pytest.raises(InputError, match="not a folder or revision"):
        resolve(text)


def test_a_list_of_files_of_the_hub_stays_in_the_repository(monkeypatch):
    import huggingface_hub

    files = [SimpleNamespace(rfilename=name) for name in ("config.json", "../../x.py")]
    info = SimpleNamespace(siblings=files)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: info)
    with pytest.raises(InputError, match="not below its own folder"):
        resolve("org/name")


@given(
    st.lists(
        st.sampled_from(["..", ".", "", "a", "b.c", "C:", "~", "\\", "a\\..", "\0"])
        | st.text(string.ascii_letters + "./\\:", max_size=4),
        max_size=5,
    )
)
def test_a_name_that_is_inside_stays_inside_on_any_system(parts):
    import ntpath
    import posixpath

    name = "/".join(parts)
    if not is_below(name):
        return
    for system, root in ((posixpath, "/some/folder"), (ntpath, "C:\\some\\folder")):
        whole = system.normpath(system.join(root, name))
        assert whole.startswith(root + system.sep), (name, whole)
