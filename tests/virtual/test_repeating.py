"""Calls that may stand for later ones, and those that must not."""

from __future__ import annotations

import torch
from torch import nn

from devplan.models.blocks import partition
from devplan.virtual.calls import ForwardCall
from devplan.virtual.folding import are_as_before, lists_among
from devplan.virtual.patches import VirtualCard
from devplan.virtual.run import SplitModel, run_split


class Handing(nn.Module):
    """A layer that leaves what it saw in a list, as autoencoders of videos do for later frames."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, seen, place):
        before = seen[place[0]]
        seen[place[0]] = x
        place[0] += 1
        return self.linear(x if before is None else torch.cat([before, x]))


class Video(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(Handing()) for _ in range(3))

    def forward(self, x):
        seen = [None] * 3
        for _ in range(2):
            place, y = [0], x
            for layer in self.layers:
                y = layer[0](y, seen, place)
        return y


def test_a_layer_that_hands_on_a_list_is_run_every_time():
    with torch.device("meta"):
        model = Video()
    outputs = []
    for fold in (True, False):
        record = run_split(
            SplitModel(
                model=model,
                config=None,
                sites=partition(model, frozenset({"Handing"})),
                device_map={"": "cuda:0"},
                main_device="cuda:0",
                cards=(VirtualCard(),),
            ),
            {"x": torch.empty(2, 4, device="meta")},
            described="",
            call=ForwardCall(),
            fold=fold,
            on_output=lambda y: outputs.append(tuple(y.shape)),
        )
        assert record.error is None
    with torch.device("cpu"):
        real = Video()(torch.zeros(2, 4))
    assert outputs == [tuple(real.shape)] * 2


def test_lists_are_found_inside_lists_and_compared_by_what_they_hold():
    inner, tensor = [torch.zeros(1)], torch.zeros(1)
    found = lists_among(((inner, 3),), {"state": [tensor]})
    assert len(found) == 2 and are_as_before(found)
    inner[0] = tensor
    assert not are_as_before(found)
