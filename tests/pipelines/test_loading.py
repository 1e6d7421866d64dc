"""From a folder to a clean map to a pipeline that lies where the map says and computes the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import devplan
from devplan.mapfile.read import read_map
from devplan.workflows.suggesting import suggest_studied
from tests.pipelines.making import made, whole
from tests.pipelines.maps import (
    STAND_INS,
    cards,
    needs,
    offloaded_map,
    split_map,
    written,
)
from tests.pipelines.tiny import NAMES

SLOW = {"hunyuan"}
"""Its text encoder reads 1,108 tokens whatever is asked for: a minute of a busy core."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in NAMES]
)
def test_a_map_over_two_cards_is_clean_and_loads_the_pipeline(studied, saved, tmp_path, name):
    known = studied(name)
    needed = needs(known)
    active = max(needed.active_bytes.values())
    total = sum(needed.load_bytes.values())
    # Not all on one card; whole components on two.
    suggestion = suggest_studied(known, cards(total + active - 1, total + active - 1), pins={})
    path = written(suggestion, tmp_path)
    map_file = suggestion.map_file
    assert set(map_file.device_map) == set(needed.graph.components)
    assert set(map_file.verification.phase_bytes) == set(needed.graph.components)
    assert map_file.model.components == tuple(known.skeleton.components)
    assert devplan.check(str(saved(name)), str(path)).is_clean
    pipeline = devplan.load(map=path, devices=STAND_INS)
    assert type(pipeline).__name__ == known.skeleton.class_name
    torch.testing.assert_close(made(pipeline, name), whole(saved(name), name))


def test_a_transformer_that_no_card_holds_is_split_and_computes_the_same(studied, saved, tmp_path):
    path = split_map(studied("flux"), tmp_path)
    assert any(entry.startswith("transformer.") for entry in read_map(path).device_map)
    pipeline = devplan.load(map=path, devices=STAND_INS)
    assert torch.equal(made(pipeline, "flux"), whole(saved("flux"), "flux"))


@pytest.mark.parametrize("tier", ["cpu", "disk"])
def test_what_is_offloaded_computes_the_same(studied, saved, tmp_path, tier):
    path = offloaded_map(studied("qwen-image"), tier, tmp_path)
    assert read_map(path).offload_bytes[tier]
    folder = tmp_path / "offload" if tier == "disk" else None
    pipeline = devplan.load(map=path, devices={"cuda:0": "cpu"}, offload_folder=folder)
    torch.testing.assert_close(
        made(pipeline, "qwen-image"), whole(saved("qwen-image"), "qwen-image")
    )


def test_the_lines_to_paste_load_the_pipeline_and_its_tiles(studied):
    from devplan.mapfile import load_code

    known = studied("flux")
    suggestion = suggest_studied(known, cards(2**30), pins={}, verify=False)
    assert load_code(suggestion.map_file, "maps/x.yaml") == [
        "import devplan",
        'pipeline = devplan.load(map="maps/x.yaml")',
    ]
    tiled = replace(suggestion.map_file, workload=replace(known.workload, tiling=True))
    assert load_code(tiled, "x.yaml")[-1] == "pipeline.vae.enable_tiling()"


def test_objectives_of_tokens_are_refused(studied):
    from devplan.core.errors import InputError

    with pytest.raises(InputError, match="this is a pipeline; give balance or fewest"):
        suggest_studied(studied("flux"), cards(2**30), objective="context", pins={})
