"""Inside ``vmap``, as in the masks of transformers, a tensor is seen one position at a time."""

from __future__ import annotations

import torch

from devplan.virtual.labels import label_of, mark
from devplan.virtual.memory import MemoryMeter

CARD = torch.device("cuda:1")


def test_a_position_has_the_label_and_the_storage_of_the_whole():
    tensor = mark(torch.zeros(3, 1024), CARD, None)
    meter, labels = MemoryMeter(), []

    def watch(row):
        labels.append(label_of(row))
        meter.count(row, CARD, ("", ""))
        return row

    torch.vmap(watch)(tensor)
    assert labels == [CARD]
    assert meter.now()[CARD] == 3 * 1024 * 4
