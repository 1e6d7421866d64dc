"""Copies that the model's own code makes: ``.to``, and what ``x[i] = y`` brings to another card."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from devplan.virtual.calls import ForwardCall
from devplan.virtual.run import run_split
from tests.virtual import tiny


class Gathers(nn.Module):
    """Puts results of two cards into one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.config = None
        self.embed = nn.Embedding(50, 8)
        self.left, self.right = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, input_ids):
        hidden = self.embed(input_ids)
        both = torch.zeros(2, *hidden.shape, device=hidden.device, dtype=hidden.dtype)
        both[0] = self.left(hidden)
        both[1] = self.right(hidden)
        return both + self.right(hidden).to(hidden.device)


def test_the_setter_and_to_are_told_apart_with_their_lines():
    with torch.device("meta"):
        model = Gathers()
    device_map = {"embed": "cuda:0", "left": "cuda:0", "right": "cuda:1"}
    split = replace(tiny.split_of(model), device_map=device_map)
    ids = {"input_ids": torch.ones(1, 4, dtype=torch.int64)}
    record = run_split(split, ids, described="", call=ForwardCall())
    assert record.error is None and not record.mismatches
    own = {event.asked_by: event for event in record.transfers if event.asked_by in ("to", "copy")}
    assert set(own) == {"to", "copy"}
    for event in own.values():
        assert (event.source_device, event.target_device) == ("cuda:1", "cuda:0")
        assert (event.num_bytes, event.count) == (4 * 8 * 4, 1)
    assert str(own["copy"].source) != str(own["to"].source)


class NamesItsModule(Gathers):
    """Calls a layer through a variable that hooks of accelerate have as well."""

    def forward(self, input_ids):
        hidden = self.embed(input_ids)
        module = self.right
        return hidden + module(hidden).to(hidden.device)


class MovesAModule(Gathers):
    """Moves layers while it runs: torch's loop over them has that variable too."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Sequential(nn.Sequential(nn.Linear(8, 8)))

    def forward(self, input_ids):
        hidden = self.right(self.embed(input_ids))
        self.extra.to(hidden.device)
        return hidden


@pytest.mark.parametrize("model_class", [NamesItsModule, MovesAModule])
def test_a_variable_of_a_hooks_name_makes_no_hook(model_class):
    with torch.device("meta"):
        model = model_class()
    device_map = {"embed": "cuda:0", "left": "cuda:0", "right": "cuda:1"}
    device_map |= {"extra": "cuda:0"} if hasattr(model, "extra") else {}
    split = replace(tiny.split_of(model), device_map=device_map)
    ids = {"input_ids": torch.ones(1, 4, dtype=torch.int64)}
    record = run_split(split, ids, described="", call=ForwardCall())
    assert record.error is None
    asked = [event.asked_by for event in record.transfers]
    assert asked.count("to") == (1 if model_class is NamesItsModule else 2)


class Allocates(Gathers):
    """Makes a table of integers on a card, beside what its layers make."""

    def forward(self, input_ids):
        hidden = self.embed(input_ids)
        table = torch.arange(100_000, device=hidden.device)
        return hidden * table[0]


def test_what_code_makes_out_of_nothing_counts_on_its_card():
    with torch.device("meta"):
        model = Allocates()
    device_map = {"embed": "cuda:0", "left": "cuda:0", "right": "cuda:0"}
    split = replace(tiny.split_of(model), device_map=device_map)
    ids = {"input_ids": torch.ones(1, 4, dtype=torch.int64)}
    record = run_split(split, ids, described="", call=ForwardCall())
    assert record.error is None
    (peak,) = (each for each in record.peaks if each.device == "cuda:0")
    assert peak.peak_bytes - peak.weight_bytes >= 800_000
