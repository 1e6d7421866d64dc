"""Classes of one's own without a ``forward``: which way in is run, and what is said of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from devplan.core.workload import Workload, resolve_workload
from devplan.inputs.request import ExampleInputs
from devplan.inputs.running import run_as_usual, run_few_tokens
from devplan.models.blocks import partition
from devplan.models.source import Skeleton
from devplan.profile.work import measure_work
from devplan.virtual.calls import GREEDY, GenerateCall, entered_part, parts_stop_after
from devplan.virtual.patches import VirtualCard
from devplan.virtual.run import SplitModel, dispatched

MANY = 500


class Speaking(nn.Module):
    """A part that generates by itself, as many steps as it is asked for."""

    config = None

    def __init__(self):
        super().__init__()
        self.read, self.out = nn.Embedding(50, 8), nn.Linear(8, 50)
        self.calls = 0

    def forward(self, input_ids):
        self.calls += 1
        return self.out(self.read(input_ids))

    def generate(self, input_ids, max_new_tokens=1, **kwargs):
        for _ in range(max_new_tokens):
            self(input_ids)
        return input_ids


class Endless(Speaking):
    """A part whose ``generate`` waits for a value that is made up."""

    def generate(self, input_ids, **kwargs):
        while not bool((self(input_ids) > 1).any().item()):
            pass
        return input_ids


class Whole(nn.Module):
    """Two parts, and nothing but a ``generate`` that runs them."""

    def __init__(self, voice=None):
        super().__init__()
        self.thinker, self.talker = Speaking(), Speaking()
        self.voice = voice

    def generate(self, input_ids):
        if self.voice is None:
            raise ValueError("no voice")
        said = self.thinker.generate(input_ids, max_new_tokens=MANY)
        return self.talker.generate(said, max_new_tokens=MANY)


class Waiting(nn.Module):
    """It has a ``forward``, and a ``generate`` without end."""

    def __init__(self):
        super().__init__()
        self.part = Endless()

    def forward(self, input_ids):
        return self.part(input_ids)

    def generate(self, input_ids, **kwargs):
        return self.part.generate(input_ids)


def run(build, way=run_as_usual):
    with torch.device("meta"):
        model = build()
    split = SplitModel(
        model=model,
        config=None,
        sites=partition(model, frozenset({"Speaking", "Endless"})),
        device_map={"": "cuda:0"},
        main_device="cuda:0",
        cards=(VirtualCard(),),
    )
    ids = torch.ones(1, 6, dtype=torch.int64)
    example = ExampleInputs(kwargs={"input_ids": ids}, modalities=("text",), source="configuration")
    with dispatched(split) as placed:
        return way(placed, example, call=GenerateCall(), described="ids")


def test_parts_are_phases_and_stop_early():
    record = run(lambda: Whole("Ada"))
    assert record.error is None and not record.entered
    assert record.phases == tuple(
        f"{part} {phase}"
        for part in ("thinker", "talker")
        for phase in ("prefill", "decode 1", "decode 2")
    )


def test_the_part_that_is_entered_runs_where_the_whole_refuses():
    record = run(Whole)
    assert record.error is None
    assert {name.partition(".")[0] for name in record.executed} == {"thinker"}
    assert "raised ValueError: no voice; thinker generate was run instead" in record.entered


def test_a_generate_without_end_is_given_up_for_forward():
    record = run(Waiting, run_few_tokens)
    assert record.phases == ("forward",) and record.error is None
    assert "generate of Waiting does not end on values that are made up" in record.entered


@pytest.mark.parametrize("asked, given", [(MANY, GREEDY["max_new_tokens"]), (2, 2)])
def test_a_part_is_asked_for_no_more_than_a_run_needs(asked, given):
    whole = Whole("Ada")
    with parts_stop_after(whole, GREEDY["max_new_tokens"]):
        whole.thinker.generate(torch.ones(1, 2, dtype=torch.int64), max_new_tokens=asked)
    assert whole.thinker.calls == given
    assert "generate" not in vars(whole.thinker)


def test_a_model_with_a_forward_is_entered_by_it():
    assert entered_part(Waiting()) is None
    assert entered_part(Whole())[0] == "thinker"


def test_its_steps_are_not_taken_for_those_of_one_model():
    skeleton = Skeleton(
        model=Whole("Ada"),
        config=None,
        class_name="Whole",
        dtype=torch.float32,
        no_split=frozenset(),
        max_tokens=None,
    )
    workload, _ = resolve_workload(Workload(context=64), dtype="float32", max_tokens=None)
    counted = measure_work(skeleton, partition(skeleton.model), workload)
    assert not counted.steps and "without a forward are not counted" in counted.notes[0]
