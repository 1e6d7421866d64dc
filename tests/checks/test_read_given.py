"""Every form in which a map comes, and what is refused: ``refused/*.yaml`` say why themselves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from devplan.core.errors import InputError
from devplan.mapfile.device_map import given_map
from devplan.mapfile.device_map_files import loads_given, read_given
from devplan.mapfile.write import dump_map
from tests.report.example_plans import MAP_FILE

REFUSED = sorted((Path(__file__).parent / "refused").glob("*.yaml"))


def devices(given) -> dict[str, str | None]:
    return {entry.key: entry.device for entry in given.entries}


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_refused_in_one_line(path):
    words = re.search(r"^# refused: (.+)$", path.read_text(), re.MULTILINE)[1]
    with pytest.raises(InputError) as caught:
        read_given(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    line = re.match(r"\d+: ", words)
    assert (f"{path}:{words}" if line else words) in message


def test_no_file(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the map .*nothing\.yaml"):
        read_given(tmp_path / "nothing.yaml")


def test_not_text(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_bytes(b"model: \xff\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_given(path)


def test_bare_yaml_with_lines():
    given = loads_given("# comment\nmodel: 0\n\nlm_head: cuda:1\n'': cpu\n", "m.yaml")
    assert devices(given) == {"model": "cuda:0", "lm_head": "cuda:1", "": "cpu"}
    assert [entry.line for entry in given.entries] == [2, 4, 5]


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_json_of_hf_device_map(indent):
    text = json.dumps({"model": 0, "model.layers.1": "cuda:1", "lm_head": "disk"}, indent=indent)
    given = loads_given(text, "hf_device_map.json")
    assert devices(given) == {"model": "cuda:0", "model.layers.1": "cuda:1", "lm_head": "disk"}
    assert given.entries[-1].line == (1 if indent is None else 4)


@pytest.mark.parametrize("wrapper", ["device_map", "hf_device_map"])
def test_wrapped(wrapper):
    given = loads_given(f"model: some/model\n{wrapper}:\n  model: 1\n", "m.yaml")
    assert devices(given) == {"model": "cuda:1"}
    assert str(given.model) == "some/model"
    assert given.entries[0].line == 3


def test_devplan_map_brings_its_machine():
    text = dump_map(MAP_FILE)
    given = loads_given(text, "m.yaml")
    assert devices(given) == dict(MAP_FILE.device_map)
    assert given.machine == MAP_FILE.machine
    assert given.workload == MAP_FILE.workload
    assert str(given.model) == MAP_FILE.model.id
    lines = text.splitlines()
    assert all(entry.key in lines[entry.line - 1] for entry in given.entries)


def test_unreadable_devices_are_kept():
    given = loads_given("a: 0\nb: '1'\nc: gpu\nd: [0]\ne: -1\nf: true\ng: null\n", "m.yaml")
    assert [entry.key for entry in given.entries if entry.device is None] == list("bcdefg")
    assert all(entry.problem for entry in given.entries if entry.device is None)


def test_python_mapping():
    given = given_map({"a": 0, "b": torch.device("cuda", 1), "c": "cpu"})
    assert devices(given) == {"a": "cuda:0", "b": "cuda:1", "c": "cpu"}
    with pytest.raises(InputError, match="give names as text"):
        given_map({0: 1})
