"""A pipeline on the hub: fetched into the cache, looked at there, and loaded from there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import devplan
from devplan.core.errors import InputError
from devplan.mapfile.read import read_map
from tests.pipelines.making import made, whole
from tests.pipelines.maps import STAND_INS
from tests.sources.hub_server import COMMIT, Hub, Repository, start


@pytest.fixture
def hub(saved, monkeypatch):
    """A hub on this machine, which this process takes for the real one."""
    from huggingface_hub import constants

    hub = Hub(repositories={"acme/flux": Repository(saved("flux"))})
    server = start(hub)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", hub.endpoint)
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def map_file(split_flux):
    content = read_map(split_flux)
    return replace(content, model=replace(content.model, id="acme/flux", revision=COMMIT))


def test_it_is_fetched_at_the_revision_of_the_map(hub, map_file, saved, tmp_path, caplog):
    cache = str(tmp_path / "cache")
    pipeline = devplan.load(map=map_file, devices=STAND_INS, cache_dir=cache)
    assert pipeline.config._name_or_path == "acme/flux"
    assert torch.equal(made(pipeline, "flux"), whole(saved("flux"), "flux"))
    asked = [path for method, path, *_ in hub.requests if "safetensors" in path]
    assert asked and all(COMMIT in path for path in asked)
    assert not [r for r in caplog.records if r.levelname == "WARNING" and r.name == "devplan"]


def test_what_is_damaged_in_the_cache_is_seen(hub, map_file, tmp_path):
    cache = tmp_path / "cache"
    devplan.load(map=map_file, devices=STAND_INS, cache_dir=str(cache))
    (cut,) = cache.rglob("snapshots/*/transformer/*.safetensors")
    cut.resolve().write_bytes(cut.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"transformer.*\(1000 bytes\)"):
        devplan.load(map=map_file, devices=STAND_INS, cache_dir=str(cache))
