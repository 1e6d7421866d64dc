"""A user's own module by factory, with inputs of its own: from nothing to a clean map."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

import devplan
from devplan.checker.run_options import RunOptions
from devplan.core.errors import InputError, UserCodeError
from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.mapfile.write import write_map
from devplan.workflows.suggesting import suggest

MODEL = """
import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x):
        return x + self.out(self.norm(x))


class TwoTowers(nn.Module):
    def __init__(self, width=2048, depth=6):
        super().__init__()
        self.look, self.read = nn.Linear(64, width), nn.Embedding(100, width)
        self.seeing = nn.ModuleList(Layer(width) for _ in range(depth))
        self.layers = nn.ModuleList(Layer(width) for _ in range(depth))
        self.head = nn.Linear(width, 100)

    def forward(self, pixels, tokens):
        seen = self.look(pixels)
        for layer in self.seeing:
            seen = layer(seen)
        text = self.read(tokens)
        for layer in self.layers:
            text = layer(text) + seen.mean(1, keepdim=True)
        return self.head(text)


class Reader(TwoTowers):
    def forward(self, session):
        return super().forward(session.pixels, session.tokens)


def build():
    with torch.device("meta"):
        return TwoTowers()


def build_reader():
    with torch.device("meta"):
        return Reader()
"""
INPUTS = """
import torch


def example():
    return {"pixels": torch.zeros(1, 10, 64), "tokens": torch.ones(1, 32, dtype=torch.int64)}


def of_another_model():
    return {"input_ids": torch.ones(1, 32, dtype=torch.int64)}


def broken():
    raise ValueError("no pictures today")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The folder of the user, and the name of a module that no other test imports."""
    (tmp_path / "towers_of_a_user.py").write_text(MODEL)
    (tmp_path / "inputs.py").write_text(INPUTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("towers_of_a_user", None)


def suggestion_for(own, function: str | None = "example", factory: str = "build"):
    inputs = f"{own / 'inputs.py'}:{function}" if function else None
    machine = parse_gpus("2x256MiB", reserve="0")
    return suggest(f"towers_of_a_user:{factory}", machine, Workload(), inputs=inputs)


def test_both_towers_are_spread_and_the_map_is_clean(own):
    found = suggestion_for(own)
    assert found.map_file.verification.status == "clean"
    assert "values of the user's function" in found.map_file.verification.detail
    assert set(found.result.placement.values()) == {"cuda:0", "cuda:1"}
    assert not found.graph.unexecuted and not found.graph.towers
    write_map(found.map_file, own / "map.yaml")
    options = RunOptions(inputs=f"{own / 'inputs.py'}:example")
    assert devplan.check("towers_of_a_user:build", str(own / "map.yaml"), options=options).is_clean


def test_inputs_of_plain_tensors_are_found_in_the_code(own):
    found = suggestion_for(own, None)
    assert found.map_file.verification.status == "clean"
    assert not found.graph.unexecuted


def test_without_inputs_the_plan_says_how_to_give_them(own):
    found = suggestion_for(own, None, "build_reader")
    assert found.map_file.verification.status == "unverified"
    assert any("--inputs" in note for note in found.notes)


def test_what_the_users_function_says_wrong_is_theirs_to_repair(own):
    with pytest.raises(UserCodeError, match="no pictures today"):
        suggestion_for(own, "broken")
    with pytest.raises(InputError, match="has no function 'exampel'; did you mean example"):
        suggestion_for(own, "exampel")


def test_a_module_of_ones_own_is_not_offered_to_be_quantized_by_from_pretrained(own):
    machine = parse_gpus("256MiB", reserve="0")
    half = replace(machine, cards=(replace(machine.cards[0], capacity_bytes=2**27),))
    found = suggest("towers_of_a_user:build", half, Workload(), verify=False)
    changes = [remedy.change for remedy in found.result.remedies]
    assert changes and not any("BitsAndBytes" in change for change in changes)
