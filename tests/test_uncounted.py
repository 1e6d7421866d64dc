"""A plan, its report and its map state nothing as 0 that no run counted."""

from __future__ import annotations

import json

import pytest

from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.mapfile.read import loads_map
from devplan.mapfile.write import dump_map
from devplan.report.suggestion import plan_json, plan_text
from devplan.report.terminal import Terminal
from devplan.workflows.suggesting import suggest

PIPE = Terminal()
WITHOUT_CODE = "openbmb/MiniCPM-V-4_5"


def told(found) -> str:
    text = plan_text(found.result, found.map_file, PIPE, "map.yaml")
    return " ".join(text.split())


def test_nothing_is_known_of_a_model_that_could_not_be_run():
    found = suggest(WITHOUT_CODE, "2x24GiB", Workload(context=64))
    document = json.loads(plan_json(found.result, found.map_file, "map.yaml"))
    assert document["verification"]["status"] == "unverified"
    for load in document["prediction"].values():
        assert load["kv_cache_bytes"] is None and load["activations_bytes"] is None
        assert load["headroom_bytes"] > 0 and load["weights_bytes"] > 0
    assert document["traffic"] is document["transfers"] is document["shared_copies"] is None
    certificate = document["certificate"]
    assert certificate["most_tokens"] is certificate["most_tokens_bound"] is None
    text = told(found)
    assert "room for" not in text and "copies" not in text
    assert "The number of tokens that fit is unknown" in text
    assert "Transfers Not counted: the model was not run" in text
    assert "?: not counted" in text


def test_what_is_not_known_stays_so_in_the_file():
    found = suggest(WITHOUT_CODE, "2x24GiB", Workload(context=64)).map_file
    written = dump_map(found, "map.yaml")
    assert "kv_cache_bytes: null" in written and "transfers: null" in written
    assert loads_map(written, "map.yaml") == found


@pytest.fixture
def own_inputs(tmp_path) -> str:
    (tmp_path / "inputs.py").write_text(
        "import torch\n\ndef inputs(model, config):\n"
        "    return {'input_ids': torch.arange(10).view(2, 5)}\n"
    )
    return f"{tmp_path / 'inputs.py'}:inputs"


def test_copies_of_the_users_inputs_are_those_of_their_run(own_inputs):
    found = suggest(
        "tests.live.test_patch_virtual:carries_ids",
        parse_gpus("2x1GiB", reserve="0"),
        Workload(),
        pins={"embed_tokens": "cuda:0", "layers": "cuda:1", "scale": "cuda:1"},
        inputs=own_inputs,
    )
    assert found.map_file.verification.status == "clean"
    traffic, run = found.result.traffic, found.check.runs[0]
    between = [t for t in run.transfers if {t.source_device, t.target_device} <= {*GPUS}]
    assert traffic.basis == "run" and traffic.prompt_tokens is None
    assert traffic.num_copies("prefill") == sum(t.count for t in between) > 0
    assert traffic.num_bytes("prefill") == sum(t.count * t.num_bytes for t in between) > 0
    assert loads_map(dump_map(found.map_file, "map.yaml"), "map.yaml") == found.map_file
    assert "Prefill of your inputs" in told(found)


GPUS = ("cuda:0", "cuda:1")
