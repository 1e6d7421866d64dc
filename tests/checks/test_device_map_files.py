"""Every form in which a map comes, and what is refused: ``refused/*.yaml`` say why themselves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from devplan.core.device_map import device_map_of
from devplan.core.errors import InputError
from devplan.mapfile.device_map_files import parse_device_map, read_device_map
from devplan.mapfile.write import dump_map
from tests.report.example_plans import MAP_FILE

REFUSED = sorted((Path(__file__).parent / "refused").glob("*.yaml"))


def devices(found) -> dict[str, str | None]:
    return {entry.key: entry.device for entry in found.entries}


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_refused_in_one_line(path):
    words = re.search(r"^# refused: (.+)$", path.read_text(), re.MULTILINE)[1]
    with pytest.raises(InputError) as caught:
        read_device_map(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    line = re.match(r"\d+: ", words)
    assert (f"{path}:{words}" if line else words) in message


def test_no_file(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the map .*nothing\.yaml"):
        read_device_map(tmp_path / "nothing.yaml")


def test_not_text(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_bytes(b"model: \xff\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_device_map(path)


def test_bare_yaml_with_lines():
    found = parse_device_map("# comment\nmodel: 0\n\nlm_head: cuda:1\n'': cpu\n", "m.yaml")
    assert devices(found) == {"model": "cuda:0", "lm_head": "cuda:1", "": "cpu"}
    assert [entry.line for entry in found.entries] == [2, 4, 5]


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_json_of_hf_device_map(indent):
    text = json.dumps({"model": 0, "model.layers.1": "cuda:1", "lm_head": "disk"}, indent=indent)
    found = parse_device_map(text, "hf_device_map.json")
    assert devices(found) == {"model": "cuda:0", "model.layers.1": "cuda:1", "lm_head": "disk"}
    assert found.entries[-1].line == (1 if indent is None else 4)


@pytest.mark.parametrize("wrapper", ["device_map", "hf_device_map"])
def test_wrapped(wrapper):
    found = parse_device_map(f"model: some/model\n{wrapper}:\n  model: 1\n", "m.yaml")
    assert devices(found) == {"model": "cuda:1"}
    assert str(found.model) == "some/model"
    assert found.entries[0].line == 3


def test_devplan_map_brings_its_machine():
    text = dump_map(MAP_FILE)
    found = parse_device_map(text, "m.yaml")
    assert devices(found) == dict(MAP_FILE.device_map)
    assert found.machine == MAP_FILE.machine
    assert found.workload == MAP_FILE.workload
    assert str(found.model) == MAP_FILE.model.id
    lines = text.splitlines()
    assert all(entry.key in lines[entry.line - 1] for entry in found.entries)


def test_unreadable_devices_are_kept():
    found = parse_device_map("a: 0\nb: '1'\nc: gpu\nd: [0]\ne: -1\nf: true\ng: null\n", "m.yaml")
    assert [entry.key for entry in found.entries if entry.device is None] == list("bcdefg")
    assert all(entry.problem for entry in found.entries if entry.device is None)


def test_python_mapping():
    found = device_map_of({"a": 0, "b": torch.device("cuda", 1), "c": "cpu"})
    assert devices(found) == {"a": "cuda:0", "b": "cuda:1", "c": "cpu"}
    with pytest.raises(InputError, match="give names as text"):
        device_map_of({0: 1})
