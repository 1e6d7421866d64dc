"""Each architecture of the gallery: planned, checked, loaded by its map, and it answers the same.

A small checkpoint of the entry's own class goes the way that the real one goes; the cards of the
map become CPU and disk, with the hooks that they would have.  Those of a pipeline become the CPU.
"""

from __future__ import annotations

import pytest
import torch
import transformers
import yaml

import devplan as devplan_library
from devplan.catalog.models import load_entry
from devplan.checker.checking import check
from devplan.cli.app import main
from tests.pipelines.making import made, whole
from tests.pipelines.tiny import SIZES, tiny_pipeline
from tools.gallery.rows import read_gallery
from tools.gallery.tiny import inputs_of, save_tiny

STAND_INS = {"cuda:0": "cpu", "cuda:1": "disk", "cuda:2": "disk"}
FEW = ("Qwen2_5_VLForConditionalGeneration", "DeepseekV3ForCausalLM")
"""Architectures of the default suite; all others are slow together."""


def architectures() -> list:
    """One entry for each class in the gallery."""
    found = {}
    for row in read_gallery().rows:
        entry = load_entry(row.model)
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
    split = devplan_library.load(map="map.yaml", devices=STAND_INS)
    assert type(split) is type(whole) is getattr(transformers, entry.class_name)
    inputs = inputs_of(whole)
    with torch.no_grad():
        expected, answer = whole(**inputs), split(**inputs)
    torch.testing.assert_close(answer.logits, expected.logits)


PIPELINES = {
    "black-forest-labs/FLUX.1-dev": "flux",
    "tencent/HunyuanVideo-1.5": "hunyuan",
    "Wan-AI/Wan2.2-T2V-A14B": "wan",
    "Wan-AI/Wan2.2-TI2V-5B": "wan-alone",
    "Qwen/Qwen-Image": "qwen-image",
}
"""Pipeline of the gallery -> the tiny one of its architecture."""


def pipelines() -> list:
    """Every pipeline of the gallery; all but the smallest take long."""
    slow = pytest.mark.slow
    rows = [row.model for row in read_gallery().rows if row.is_pipeline]
    return [pytest.param(m, id=m, marks=() if "FLUX" in m else slow) for m in rows]


@pytest.mark.parametrize("model", pipelines())
def test_a_pipeline_loads_by_its_map_and_makes_the_same(model, tmp_path, monkeypatch, capsys):
    pytest.importorskip("diffusers")
    monkeypatch.chdir(tmp_path)
    name, entry = PIPELINES[model], load_entry(model)
    tiny = tiny_pipeline(name)
    assert type(tiny).__name__ == entry.class_name
    assert set(entry.components) <= {key for key, part in tiny.components.items() if part}
    tiny.save_pretrained(tmp_path / name)
    size = SIZES[name]
    options = ["--context", "32", "--image-size", f"{size['height']}x{size['width']}"]
    options += ["--frames", str(size["num_frames"])] if "num_frames" in size else []
    pin = ("--pin", "transformer=cuda:1")
    command = ["suggest", name, "--gpus", "1GiB,1GiB", *options, *pin, "-o", "map.yaml"]
    assert main(command) == 0, capsys.readouterr()
    content = yaml.safe_load((tmp_path / "map.yaml").read_text())
    assert content["verification"]["status"] == "clean", content["verification"]
    assert len(set(content["device_map"].values())) > 1, "nothing is split"
    assert [each.message for each in check(name, "map.yaml").errors] == []
    split = devplan_library.load(map="map.yaml", devices={"cuda:0": "cpu", "cuda:1": "cpu"})
    torch.testing.assert_close(made(split, name), whole(tmp_path / name, name))
