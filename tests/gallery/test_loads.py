"""Each architecture of the gallery: planned, checked, loaded by its map, and it answers the same.

A small checkpoint of the entry's own class goes the way that the real one goes; the cards of the
map become CPU and disk, with the hooks that they would have.
"""

from __future__ import annotations

import pytest
import torch
import transformers
import yaml

import devplan as devplan_library
from devplan.catalog.models import load
from devplan.checking import check
from devplan.cli import main
from tests.gallery.rows import read_gallery
from tests.gallery.tiny import inputs_of, save_tiny

STAND_INS = {"cuda:0": "cpu", "cuda:1": "disk", "cuda:2": "disk"}
FEW = ("Qwen2_5_VLForConditionalGeneration", "DeepseekV3ForCausalLM")
"""Architectures of the default suite; all others are slow together."""


def architectures() -> list:
    """One entry for each class in the gallery."""
    found = {}
    for row in read_gallery().rows:
        entry = load(row.model)
        if entry.library == "transformers":
            found.setdefault(entry.class_name, entry)
    slow = pytest.mark.slow
    return [
        pytest.param(entry, id=name, marks=() if name in FEW else slow)
        for name, entry in found.items()
    ]


@pytest.mark.parametrize("entry", architectures())
def test_it_loads_by_its_map_and_answers_as_the_whole_model(entry, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = str(tmp_path / entry.class_name)
    whole = save_tiny(entry, folder)
    cards = ("--gpus", "1GiB,512MiB,1GiB", "--context", "256", "--dtype", "float32")
    status = main(["suggest", folder, *cards, "-o", "map.yaml"])
    assert status == 0, capsys.readouterr()
    content = yaml.safe_load((tmp_path / "map.yaml").read_text())
    assert content["verification"]["status"] == "clean", content["verification"]
    assert len(set(content["device_map"].values())) > 1, "nothing is split"
    found = check(folder, "map.yaml")
    assert [each.message for each in found.errors] == []
    split = devplan_library.load("map.yaml", devices=STAND_INS)
    assert type(split) is type(whole) is getattr(transformers, entry.class_name)
    inputs = inputs_of(whole)
    with torch.no_grad():
        expected, answer = whole(**inputs), split(**inputs)
    torch.testing.assert_close(answer.logits, expected.logits)
