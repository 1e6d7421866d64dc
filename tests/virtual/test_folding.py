"""Folding changes nothing but the time: every result equals that of running each layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from devplan.core.workload import Workload
from devplan.inputs.plain import plain_inputs
from devplan.models.blocks import partition
from devplan.profile.runs import measure_run
from devplan.virtual.limited import TooManyOps
from devplan.virtual.tracing import Trace
from tests.profile.twins import CASES
from tests.virtual.models import skeleton_of_module, skeleton_of_type, types_of_task
from tests.virtual.traced import traced

WORKLOAD = Workload(context=512)


def assert_same_folded(skeleton):
    sites = partition(skeleton.model, skeleton.no_split)
    folded = measure_run(skeleton, sites, WORKLOAD)
    full = measure_run(skeleton, sites, WORKLOAD, fold=False)
    if not full.order:
        pytest.skip(f"does not run at its default configuration: {full.notes[0]}")
    assert folded.cache == full.cache
    assert folded.order == full.order
    assert folded.input_bytes_per_token == full.input_bytes_per_token
    assert folded.shared_inputs == full.shared_inputs
    assert folded.notes == full.notes


@pytest.mark.parametrize(("model_type", "settings"), CASES, ids=[name for name, _ in CASES])
def test_twins(model_type, settings):
    assert_same_folded(skeleton_of_type(model_type, **settings))


@pytest.mark.slow
@pytest.mark.parametrize("model_type", types_of_task("causal"))
def test_every_causal_type(model_type):
    try:
        skeleton = skeleton_of_type(model_type, "causal")
    except Exception as error:
        pytest.skip(f"cannot be built at its default configuration: {error}")
    assert_same_folded(skeleton)


def stands_for(skeleton) -> dict[str, list[str]]:
    sites = partition(skeleton.model, skeleton.no_split)
    example = plain_inputs(skeleton.model, skeleton.config)[0]
    trace = traced(skeleton.model, sites, example.make(24), fold=True)
    return dict(trace.stands_for)


def test_equal_layers_run_once():
    settings = dict(CASES)["llama"]
    names = [f"model.layers.{index}" for index in range(4)]
    assert stands_for(skeleton_of_type("llama", **settings)) == {names[0]: names[1:]}


def test_layer_types_of_the_configuration_keep_layers_apart():
    found = stands_for(skeleton_of_type("gpt_oss", **dict(CASES)["gpt_oss"]))
    assert found == {
        "model.layers.0": ["model.layers.2"],
        "model.layers.1": ["model.layers.3"],
    }


class Layer(nn.Module):
    def __init__(self, width: int = 8, scale: float = 1.0) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.scale = scale

    def forward(self, hidden, memory):
        return hidden + self.scale * self.down(self.up(hidden)), memory


class Model(nn.Module):
    def __init__(self, layers) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.layers = nn.ModuleList(layers)

    def forward(self, input_ids):
        memory = torch.zeros(3, device=input_ids.device)
        hidden = self.embed(input_ids)
        for layer in self.layers:
            hidden, memory = layer(hidden, memory)
        return hidden, memory


def test_any_plain_attribute_keeps_layers_apart():
    with torch.device("meta"):
        model = Model([Layer(), Layer(), Layer(scale=0.5), Layer()])
    assert stands_for(skeleton_of_module(model)) == {"layers.0": ["layers.1", "layers.3"]}


def test_arguments_that_are_passed_through_stay_the_same_object():
    with torch.device("meta"):
        model = Model([Layer() for _ in range(3)])
    skeleton = skeleton_of_module(model)
    sites = partition(model)
    ids = torch.ones(1, 24, dtype=torch.int64)
    trace = traced(model, sites, {"input_ids": ids}, fold=True)
    memories = {id(trace.inputs[f"layers.{index}"][1].tensor) for index in range(3)}
    assert memories == {id(trace.output[1])}
    assert skeleton.model is model


def test_layers_that_are_walked_through_twice_count_once():
    class Twice(Model):
        def forward(self, input_ids):
            hidden, memory = self.embed(input_ids), None
            for layer in (*self.layers, *self.layers):
                hidden, memory = layer(hidden, memory)
            return hidden

    with torch.device("meta"):
        model = Twice([Layer() for _ in range(3)])
    assert stands_for(skeleton_of_module(model)) == {
        "layers.0": ["layers.1", "layers.2", "layers.0"]
    }


def test_a_model_that_cannot_be_folded_is_run_in_full():
    """The second layer writes what the code after the stack reads."""

    class Writing(Layer):
        def forward(self, hidden, memory):
            memory[self.index] = hidden
            return super().forward(hidden, memory)

    class Reading(Model):
        def forward(self, input_ids):
            memory = {}
            hidden = self.embed(input_ids)
            for layer in self.layers:
                hidden, _ = layer(hidden, memory)
            return sum(memory[index] for index in range(len(self.layers)))

    with torch.device("meta"):
        model = Reading([Writing() for _ in range(3)])
    for index, layer in enumerate(model.layers):
        layer.index = index
    skeleton = skeleton_of_module(model)
    run = measure_run(skeleton, partition(model), WORKLOAD)
    assert run.notes == ()
    assert run.order == ("embed", "layers.0", "layers.1", "layers.2")


def test_a_trace_holds_what_ran_before_an_error():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)).to("meta")
    ids = {"input": torch.empty(1, 8, device="meta")}
    whole = traced(model, (), ids)
    assert whole.num_ops > 1
    begun = Trace()
    with pytest.raises(TooManyOps):
        traced(model, (), ids, limit_ops=1, trace=begun)
    assert 0 < begun.num_ops <= whole.num_ops
