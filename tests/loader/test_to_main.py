"""Inputs, however nested, to where they enter; and the bare dict."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch
import yaml
from transformers import BatchEncoding, BatchFeature

import devplan
from devplan.core.errors import InputError
from tests.loader.checkpoints import ALL_CPU, assert_same, outputs

Pair = namedtuple("Pair", ["one", "other"])


@pytest.fixture
def model(tied):
    """Its main device is one on which tensors can be told from others: meta."""
    return devplan.load(tied.folder, tied.map, devices=dict.fromkeys(ALL_CPU, "meta"))


def test_every_tensor_moves_and_every_type_stays(model):
    x = torch.ones(2)
    inputs = {"a": [x, (x, {"b": x})], "c": Pair(x, "text"), "d": 3, "e": None}
    moved = devplan.to_main(model, inputs)
    assert moved["a"][0].is_meta and moved["a"][1][0].is_meta and moved["a"][1][1]["b"].is_meta
    assert isinstance(moved["c"], Pair) and moved["c"].one.is_meta
    assert (moved["c"].other, moved["d"], moved["e"]) == ("text", 3, None)
    assert not x.is_meta and inputs["a"][0] is x


@pytest.mark.parametrize("kind", [BatchEncoding, BatchFeature])
def test_what_tokenizers_and_processors_give(model, kind):
    given = kind({"input_ids": torch.ones(1, 3, dtype=torch.long), "pixel_values": torch.ones(2)})
    moved = devplan.to_main(model, given)
    assert isinstance(moved, kind)
    assert {name: value.device.type for name, value in moved.items()} == {
        "input_ids": "meta",
        "pixel_values": "meta",
    }
    assert moved["pixel_values"].dtype == torch.float32


def test_a_model_without_hooks(tied):
    moved = devplan.to_main(tied.whole(), {"x": torch.ones(1)})
    assert moved["x"].device.type == "cpu"


def test_the_dict_alone(tied):
    """As YAML gives it, but checked."""
    plain = yaml.safe_load(tied.map.read_text())["device_map"]
    assert devplan.device_map(tied.map) == plain and set(plain.values()) == {0, 1, 2}
    stand_ins = {"cuda:0": "cpu", "cuda:1": "disk", "cuda:2": "cpu"}
    here = devplan.device_map(tied.map, devices=stand_ins)
    model = tied.whole(device_map=here)
    assert model.hf_device_map == here
    assert_same(outputs(model, tied.inputs), outputs(tied.whole(), tied.inputs))


def test_the_dict_of_no_map(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("schema: 1\ndevice_map: {model: first}\n")
    with pytest.raises(InputError, match=r"map\.yaml"):
        devplan.device_map(path)
