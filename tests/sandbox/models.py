"""Small models that a check takes some hundredths of a second for, and models that misbehave."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn


class Small(nn.Module):
    """An embedding, layers and a head; `during` is called in every forward."""

    def __init__(self, num_layers: int = 2, during: Callable[[], object] | None = None) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, 8)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8)) for _ in range(num_layers))
        self.head = nn.Linear(8, 16)
        self.during = during

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(input_ids)
        for layer in self.layers:
            hidden = layer(hidden)
        if self.during is not None:
            self.during()
        return self.head(hidden)


class Mixing(Small):
    """Adds a tensor that it makes on the CPU, which a GPU refuses."""

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return super().forward(input_ids) + torch.ones(16)[torch.zeros(1, dtype=torch.int64)]


def meta(kind: type[nn.Module], *args: object, **kwargs: object) -> nn.Module:
    with torch.device("meta"):
        return kind(*args, **kwargs)


def map_of(model: Small, shift: int = 0) -> dict[str, int]:
    layers = {f"layers.{i}": (i + shift) % 2 for i in range(len(model.layers))}
    return {"embed": shift % 2, **layers, "head": 1}


def loops() -> None:
    while True:
        pass


def loops_and_catches_exceptions() -> None:
    while True:
        try:
            time.sleep(0.001)
        except Exception:
            continue


def loops_and_catches_everything() -> None:
    while True:
        try:
            sum(range(1000))
        except BaseException:
            continue


def catches_once() -> None:
    try:
        loops()
    except BaseException:
        return


def calls_in_a_finally() -> None:
    try:
        loops()
    finally:
        loops()


def sleeps() -> None:
    time.sleep(600)


def swallows_ops() -> None:
    while True:
        try:
            torch.ones(2) + 1
        except BaseException:
            continue
