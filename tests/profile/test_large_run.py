"""The run that shows windows: at how many tokens, what is not run in it, and what is not seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from devplan.core.types import CacheGrowth
from devplan.core.workload import Workload
from devplan.models.blocks import partition
from devplan.profile.runs import measure_run
from tests.profile.test_cache import Keepless, Returning
from tests.virtual.models import skeleton_of_module

WINDOW = 300
WHOLE = (CacheGrowth(bytes_per_token=16),)
SLIDING = (CacheGrowth(bytes_per_token=16, window_tokens=WINDOW),)


class Windowed(Returning):
    """Keeps the last tokens, and runs no more of them than it can."""

    longest = 10**9

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[int] = []

    def forward(self, input_ids, use_cache=True):
        self.lengths.append(input_ids.shape[1])
        if input_ids.shape[1] > self.longest:
            raise ValueError("too long")
        return super().forward(input_ids)

    def kept(self, key):
        return key[:, -WINDOW:]


def measured(model: nn.Module, context: int, promised: int | None = None):
    with torch.device("meta"):
        skeleton = replace(skeleton_of_module(model), max_tokens=promised)
    sites = partition(skeleton.model)
    return measure_run(skeleton, sites, Workload(context=context))


def meta(model_class: type[nn.Module], **fields) -> nn.Module:
    with torch.device("meta"):
        model = model_class()
    for name, value in fields.items():
        setattr(model, name, value)
    return model


@pytest.mark.parametrize(
    ("context", "promised", "longest", "ran", "unseen"),
    [
        # at the context, or at what the configuration promises where that is more
        (5000, None, 10**9, [5000], None),
        (5000, 7000, 10**9, [7000], None),
        (7000, 5000, 10**9, [7000], None),
        (2**21, None, 10**9, [2**20], None),
        # at less where that fails: a context beyond the promise need not run
        (7000, 5000, 5000, [7000, 5000], None),
        (5000, None, 4000, [5000, 2048], 2048),
        (9000, 9500, 9499, [9500, 9000], None),
        (9000, 9500, 8999, [9500, 9000, 8192], 8192),
        (5000, None, 600, [5000, 2048, 512], 512),
        (100, None, 50, [100], 40),
        (5000, None, 50, [5000, 2048, 512, 128], 40),
        # no more than the small runs had
        (41, None, 10**9, [41], None),
        (40, None, 10**9, [], None),
        (10, None, 10**9, [], None),
    ],
)
def test_at_how_many_tokens(context, promised, longest, ran, unseen):
    model = meta(Windowed, longest=longest)
    found = measured(model, context, promised)
    assert model.lengths[:2] == [24, 40]
    assert model.lengths[2:] == ran
    seen = bool(ran) and WINDOW < ran[-1] <= longest
    assert found.cache == dict.fromkeys(
        (f"layers.{index}" for index in range(3)), SLIDING if seen else WHOLE
    )
    if unseen is None:
        assert found.notes == ()
    else:
        (note,) = found.notes
        assert note.startswith(
            f"no virtual run of more than {unseen:,} tokens (ValueError: too long); "
        )


def test_nothing_is_asked_of_a_model_that_keeps_nothing(monkeypatch):
    def never(*_):
        raise AssertionError("it was run")

    monkeypatch.setattr("devplan.profile.runs._run_without_loops", never)
    assert measured(meta(Keepless), 5000).notes == ()


class Loops(Windowed):
    """Loops over the tokens behind the layers, or in them."""

    where = "between"

    def kept(self, key):
        if self.where == "between":
            for index in range(key.shape[1]):
                key[:, index] + 1
        return super().kept(key)


def test_code_between_the_blocks_that_loops_is_run_at_fewer_tokens():
    """At 512 tokens it takes a few times the ops of a small run, at 8192 more than it may."""
    found = measured(meta(Loops), 30_000)
    (note,) = found.notes
    assert note.startswith("no virtual run of more than ")
    assert "the code between the blocks loops over tokens" in note


class LoopingLayer(nn.Module):
    """Keeps a state, and a key where it is told to; loops over the tokens."""

    keeps = False

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(8, 4)
        self.norm = nn.LayerNorm(8)

    def forward(self, hidden):
        state = torch.zeros(hidden.shape[0], 4, device=hidden.device)
        for index in range(hidden.shape[1]):
            state = state + self.key(hidden[:, index])
        return self.norm(hidden), (self.key(hidden) if self.keeps else state)


class Recurrent(Returning):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([LoopingLayer() for _ in range(3)])


@pytest.mark.parametrize("context", [1000, 100_000])
def test_layers_that_loop_over_tokens_and_keep_a_state_are_foretold(context):
    found = measured(meta(Recurrent), context)
    state = (CacheGrowth(constant_bytes=16),)
    assert found.cache == {f"layers.{index}": state for index in range(3)}
    assert found.notes == ()


def test_layers_that_loop_over_tokens_and_keep_them_are_run_at_fewer():
    model = meta(Recurrent)
    for layer in model.layers:
        layer.keeps = True
    found = measured(model, 100_000)
    assert found.cache == {f"layers.{index}": WHOLE for index in range(3)}
    (note,) = found.notes
    assert "(layers.0 loops over tokens)" in note


class MixedLayers(Windowed):
    """Looping layers that cannot be folded into one, around one that keeps the last tokens."""

    def __init__(self) -> None:
        super().__init__()
        kept = self.layers[1]
        self.layers = nn.ModuleList([LoopingLayer(), kept, LoopingLayer()])
        self.layers[2].note = "another"


def test_layers_like_the_one_that_loops_are_foretold_with_it_and_others_are_run():
    model = meta(MixedLayers)
    found = measured(model, 5000)
    state = (CacheGrowth(constant_bytes=16),)
    assert found.cache == {"layers.0": state, "layers.1": SLIDING, "layers.2": state}
    assert found.notes == ()
    # once until a layer loops, once with both of them given
    assert model.lengths == [24, 40, 5000, 5000]


def test_a_model_of_many_ops_may_take_as_many_times_more_in_the_large_run(monkeypatch):
    """The limit is for code that loops over tokens: a few times the ops of the small run."""
    monkeypatch.setattr("devplan.profile.runs.MOST_OPS", 1)
    found = measured(meta(Windowed), 5000)
    assert found.notes == ()
    assert found.cache == {f"layers.{index}": SLIDING for index in range(3)}
