"""A checkpoint on the hub: fetched into the cache and looked at there, then loaded from it."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

import devplan
from devplan.core.errors import InputError
from devplan.loader.checkpoint_files import checkpoint_files
from devplan.mapfile.read import read_map
from tests.loader.checkpoints import ALL_CPU, assert_same, outputs
from tests.sources.hub_server import COMMIT, Hub, Repository, start


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine, which this process takes for the real one; an empty cache."""
    from huggingface_hub import constants

    hub = Hub()
    server = start(hub)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield hub
    server.shutdown()
    server.server_close()


def on_hub(tied, revision=COMMIT):
    map_file = read_map(tied.map)
    return replace(map_file, model=replace(map_file.model, id="acme/tied", revision=revision))


def test_it_is_loaded_by_the_id_and_revision_of_the_map(hub, tied, tmp_path):
    hub.repositories["acme/tied"] = Repository(tied.folder)
    model = devplan.load(map=on_hub(tied), devices=ALL_CPU, cache_dir=str(tmp_path / "cache"))
    assert_same(outputs(model, tied.inputs), outputs(tied.whole(), tied.inputs))
    asked = [path for method, path, *_ in hub.requests if "safetensors" in path]
    assert asked and all(COMMIT in path for path in asked)


def test_what_is_damaged_in_the_cache_is_seen(hub, tied, tmp_path):
    folder = shutil.copytree(tied.folder, tmp_path / "served")
    hub.repositories["acme/tied"] = Repository(folder)
    arguments = {"cache_dir": str(tmp_path / "cache"), "revision": COMMIT}
    files = checkpoint_files("acme/tied", "transformers", arguments)
    cut = files.shards[1].resolve()
    cut.write_bytes(cut.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"\(1000 bytes\)"):
        devplan.load(map=on_hub(tied), devices=ALL_CPU, cache_dir=str(tmp_path / "cache"))


def test_a_repository_that_is_not_there(hub):
    """from_pretrained says why."""
    assert checkpoint_files("acme/nothing", "transformers", {}) is None
