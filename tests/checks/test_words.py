"""How findings are told: names and numbers in sentences, lines of code, changes of a map."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from devplan.checker import preparation as which_model
from devplan.checker.from_model import in_names_of_the_model, unwrapped
from devplan.checker.preparation import fitting_model
from devplan.checker.showing import diff_lines, entry_place, source_lines, tensor_lines
from devplan.core.device_map import Entry, device_map_of
from devplan.core.errors import InputError
from devplan.core.findings import OperandFact, SourceLine
from devplan.rules.places import counted, listed, words_for


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["a"], "a"),
        ([""], "the whole model"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (["a", "b", "c", ""], "a, b, c and the whole model"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
    ],
)
def test_names_in_a_sentence(names, text):
    assert listed(names) == text


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "copy", "1 copy"),
        (0, "copy", "0 copies"),
        (2, "copy", "2 copies"),
        (1234, "block", "1,234 blocks"),
    ],
)
def test_numbers_in_a_sentence(number, noun, text):
    assert counted(number, noun) == text


def test_the_empty_name_is_the_model():
    assert (words_for(""), words_for("a.b")) == ("the model's own code", "a.b")


def test_a_line_of_code_and_its_tensors():
    known = SourceLine(file="a.py", line=7, function="forward", text="a + b")
    assert source_lines(known) == ["  a.py:7 in forward", "      a + b"]
    assert source_lines(SourceLine(file="a.py", line=7, function="f", text="")) == ["  a.py:7 in f"]
    tensors = [
        OperandFact(
            argument=argument,
            device=device,
            shape=shape,
            dtype="float32",
            num_bytes=size,
            name=name,
        )
        for argument, device, shape, size, name in (
            ("self", "cuda:0", (2, 3), 24, None),
            ("other", "cpu", (), 2048, "a.weight"),
        )
    ]
    first, second = (line.split() for line in tensor_lines(tensors))
    assert first == ["self", "cuda:0", "2x3", "float32", "24", "B"]
    assert second == ["other", "cpu", "0-dim", "float32", "2.00", "KiB", "a.weight"]


def entry(key: str, device: str = "cuda:1", **more) -> Entry:
    return Entry(key=key, device=device, **more)


ENTRIES = [entry("a"), entry("b", "cpu"), entry("c", written="cuda:1"), entry("")]


@pytest.mark.parametrize(
    ("changed", "dropped", "lines"),
    [
        ({"a": "cuda:0"}, (), ["- a: 1", "+ a: 0"]),
        ({"new": "cuda:0"}, (), ["+ new: 0"]),
        ({"b": "cuda:0", "c": "cpu"}, (), ["- b: cpu", "+ b: 0", "- c: cuda:1", "+ c: cpu"]),
        ({"": "cuda:0"}, (), ["- '': 1", "+ '': 0"]),
        ({}, ("a", "unknown"), ["- a: 1"]),
        # an entry in several; one that is dropped is not shown twice
        ({"a.x": "cuda:0", "a.y": "cuda:1"}, ("a",), ["- a: 1", "+ a.x: 0", "+ a.y: 1"]),
        ({"a": "cuda:0", "a.y": "cuda:1"}, ("a",), ["- a: 1", "+ a: 0", "+ a.y: 1"]),
        # renames: each new name below the old one
        (
            {"x": "cuda:1", "y": "cpu"},
            ("a", "b"),
            ["- a: 1", "+ x: 1", "- b: cpu", "+ y: cpu"],
        ),
    ],
)
def test_what_a_repair_changes(changed, dropped, lines):
    assert diff_lines(changed, ENTRIES, dropped) == lines


def test_where_an_entry_is():
    assert entry_place(entry("a", file="m.yaml", line=4)) == "m.yaml:4: a: 1"
    assert entry_place(entry("a", file="m.yaml")) == entry_place(entry("a", line=4)) == "a: 1"


# -------------------------------------------------------------------------------------- wrappers


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)


class Adapter(nn.Module):
    """As peft's."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.base = nn.Module()
        self.base.model = model

    def get_base_model(self):
        return self.base.model


class Alone(Inner):
    def get_base_model(self):
        return self


class OptimizedModule(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._orig_mod = model


class DeepSpeedEngine(Inner):
    pass


def test_the_model_inside_what_others_put_around_it():
    model = Inner()
    assert unwrapped(model) is model
    for around in (Adapter, OptimizedModule, nn.DataParallel):
        assert unwrapped(around(model)) is model
    assert unwrapped(OptimizedModule(Adapter(model))) is model
    alone = Alone()
    assert unwrapped(alone) is alone


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_models_that_no_virtual_run_can_follow():
    with pytest.raises(InputError, match="TorchScript"):
        unwrapped(torch.jit.trace(nn.Linear(1, 1), torch.ones(1, 1)))
    for wrapped in (DeepSpeedEngine(), Adapter(DeepSpeedEngine())):
        with pytest.raises(InputError, match="parameters of DeepSpeedEngine are cut"):
            unwrapped(wrapped)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        (["base.model.layer", "base.model"], ["layer", ""]),
        (["layer"], ["layer"]),
        (["base.model.layer", "layer"], ["base.model.layer", "layer"]),
    ],
)
def test_a_map_in_names_of_the_wrapper(keys, named):
    given = device_map_of(dict.fromkeys(keys, "cuda:0"))
    found = in_names_of_the_model(given, Adapter(Inner()))
    assert [each.key for each in found.entries] == named
    assert {each.device for each in found.entries} == {"cuda:0"}
    assert in_names_of_the_model(given, Inner()) is given


# ----------------------------------------------------------------------------------- other models


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (["model.layers.0", "model.layers.2", ""], "three"),
        (["model.layers.1", "head"], "two"),
        (["model.layers.1", "tail"], None),
        (["model.layers.0"], None),  # one layer would fit many
        (["model", "head"], None),
        (["model.layers.6"], None),
    ],
)
def test_the_model_that_a_map_was_made_for(monkeypatch, keys, found):
    class Model(nn.Module):
        def __init__(self, layers: int) -> None:
            super().__init__()
            self.model, self.head = nn.Module(), nn.Linear(1, 1)
            self.model.layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(layers))

    layers = {"gone": 3, "three": 3, "two": 2, "pipeline": 2}

    def build(source):
        if source == "gone":
            raise InputError("no such class")
        return SimpleNamespace(model=Model(layers[source]))

    entries = [
        SimpleNamespace(
            id=name,
            library="diffusers" if name == "pipeline" else "transformers",
            config={"text": {"num_hidden_layers": number}, "is_tied": True, "eps": 7.0},
        )
        for name, number in layers.items()
    ]
    monkeypatch.setattr(which_model, "load_models", lambda: entries)
    monkeypatch.setattr(which_model, "resolve", lambda name: name)
    monkeypatch.setattr(which_model, "build_skeleton", build)
    assert fitting_model(keys) == found
