"""A map of a model that a relative path names, checked from anywhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml

import devplan as api

CARDS = ("--gpus", "1GiB,1GiB")


@pytest.fixture
def project(devplan, here, checkpoint):
    """A project with a model, a map beside it and one in maps/, of which both say ``./tiny``."""
    folder = here / "project"
    shutil.copytree(checkpoint, folder / "tiny")
    (here / "elsewhere").mkdir()
    os.chdir(folder)
    for output in ("beside.yaml", "maps/below.yaml"):
        assert devplan("suggest", "./tiny", *CARDS, "-o", output).status == 0
    os.chdir(here / "elsewhere")
    return Path("..") / "project"


@pytest.mark.parametrize("path", ["beside.yaml", "maps/below.yaml"])
def test_a_map_is_checked_from_another_folder(devplan, project, path):
    answer = devplan("check", project / path)
    assert answer.status == 0, answer
    assert "ran prefill" in answer.out


def test_so_does_every_command_that_reads_a_map(devplan, project):
    path = project / "beside.yaml"
    Path("log.txt").write_text("RuntimeError: Cannot copy out of meta tensor; no data!\n")
    assert devplan("graph", path).status == 0
    assert devplan("diff", path, path).status == 0
    assert devplan("explain", "log.txt", "--map", path).status == 0
    doctor = devplan("doctor", path)
    assert "was not compared" not in doctor.out


def test_it_is_loaded_from_there_too(project):
    stand_ins = {"cuda:0": "cpu", "cuda:1": "cpu"}
    model = api.load(map=project / "beside.yaml", devices=stand_ins)
    assert type(model).__name__ == "LlamaForCausalLM"


def test_the_current_folder_comes_first(devplan, project, checkpoint):
    shutil.copytree(checkpoint, "tiny")
    Path("tiny/config.json").write_text("{}")
    assert "tiny" in devplan("check", project / "beside.yaml").err


def test_a_bare_map_names_its_model_likewise(devplan, project):
    bare = yaml.safe_load((project / "beside.yaml").read_text())["device_map"]
    text = yaml.safe_dump({"model": "./tiny", "device_map": bare})
    (project / "bare.yaml").write_text(text)
    assert devplan("check", project / "bare.yaml", *CARDS).status == 0


def test_a_model_that_is_nowhere_is_said_with_the_map_and_both_places(refused, project):
    shutil.rmtree(project / "tiny")
    line = refused("check", project / "maps/below.yaml")
    assert "../project/maps/below.yaml is for the folder ./tiny, which is not here" in line
    assert "nor in ../project/maps or the folder above it; give --model FOLDER" in line


def test_each_message_of_several_maps_names_its_map(devplan, project, checkpoint):
    names = []
    for number, model in enumerate(["./gone", "nobody", "no/such/", "a:b", str(checkpoint / "x")]):
        names.append(f"{number}.yaml")
        Path(names[-1]).write_text(f"model: {model}\ndevice_map:\n  model: 0\n  lm_head: 0\n")
    Path("broken.yaml").write_text("model: 0\nmodel: 0\n")
    answer = devplan("check", *names, "broken.yaml", *CARDS)
    assert answer.status == 2
    lines = answer.err.splitlines()
    assert [line.startswith("devplan: ") for line in lines] == [True] * 6
    assert all(name in line for name, line in zip([*names, "broken.yaml"], lines, strict=True))
