"""Folding changes how long a split run takes, never what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from devplan.core.findings import RunRecord
from devplan.virtual.calls import ForwardCall, GenerateCall, ModelCall
from devplan.virtual.run import SplitModel, run_split
from tests.virtual import tiny


def told(record: RunRecord) -> dict:
    """All that a check tells; the number of ops says what it cost.

    What single blocks need is for the planner, which folds always, and is not compared here.
    """
    return vars(replace(record, num_ops=0, activations=()))


def runs(model_type: str, generate: bool) -> tuple[RunRecord, RunRecord]:
    """The run with folding, and in full."""
    model, inputs = tiny.meta_model(model_type), tiny.abstract_inputs(model_type)
    if generate:
        inputs = tiny.for_generate(inputs)
    call = GenerateCall() if generate else ForwardCall()
    return run_both_ways(tiny.split_of(model), inputs, call)


def forwards(model: nn.Module, device_map: dict[str, str]) -> tuple[RunRecord, RunRecord]:
    """The same of one forward of a model of the tests, over 8 tokens."""
    split = replace(tiny.split_of(model), device_map=device_map)
    inputs = {"input_ids": torch.ones(1, 8, dtype=torch.int64)}
    return run_both_ways(split, inputs, ForwardCall())


def run_both_ways(split: SplitModel, inputs: dict, call: ModelCall) -> tuple[RunRecord, RunRecord]:
    folded, full = (
        run_split(split, inputs, described="", call=call, fold=fold) for fold in (True, False)
    )
    return folded, full


@pytest.mark.parametrize("model_type", tiny.cases(tiny.CASES))
def test_forward(model_type):
    folded, full = runs(model_type, generate=False)
    assert told(folded) == told(full)
    assert folded.num_ops <= full.num_ops


@pytest.mark.parametrize(
    "model_type",
    tiny.cases(name for name in tiny.CASES if tiny.generates(tiny.model_class(name))),
)
def test_generate(model_type):
    folded, full = runs(model_type, generate=True)
    assert told(folded) == told(full)


def test_most_models_are_folded():
    fewer = [name for name in ("llama", "bert", "t5", "qwen2_vl", "vit") if _saves_ops(name)]
    assert len(fewer) >= 4


def _saves_ops(model_type: str) -> bool:
    folded, full = runs(model_type, generate=False)
    return folded.num_ops < full.num_ops


class Cache:
    """States by layer; a fixed one has no place for more."""

    def __init__(self, states: list[torch.Tensor | None]) -> None:
        self.states = states


class Layer(nn.Module):
    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index
        self.up = nn.Linear(8, 8)

    def forward(self, hidden, cache, grows):
        if grows and len(cache.states) == self.index:
            cache.states.append(None)
        cache.states[self.index] = self.up(hidden)
        return hidden + cache.states[self.index]


class Decoder(nn.Module):
    def __init__(self, num_places: int, grows: bool) -> None:
        super().__init__()
        self.config = None
        self.embed = nn.Embedding(50, 8)
        self.layers = nn.ModuleList(Layer(index) for index in range(8))
        self.num_places, self.grows = num_places, grows

    def forward(self, input_ids):
        cache, hidden = Cache([None] * self.num_places), self.embed(input_ids)
        for layer in self.layers:
            hidden = layer(hidden, cache, self.grows)
        return hidden, cache.states[-1]


@pytest.mark.parametrize(
    ("num_places", "grows", "fails"),
    [(0, True, False), (8, False, False), (3, False, True), (7, False, True)],
)
def test_a_cache_made_for_too_few_layers_fails_when_folded_too(num_places, grows, fails):
    with torch.device("meta"):
        model = Decoder(num_places, grows)
    folded, full = forwards(model, {"embed": "cuda:0", "layers": "cuda:0"})
    assert told(folded) == told(full)
    assert folded.num_ops < full.num_ops or fails
    assert (full.error is not None and full.error.type == "IndexError") == fails


class ModuleCache(nn.Module):
    """As the caches of transformers 4.42 to 4.48."""

    def __init__(self, states: list[torch.Tensor | None]) -> None:
        super().__init__()
        self.states = states


class DecoderWithAModule(Decoder):
    def forward(self, input_ids):
        cache, hidden = ModuleCache([]), self.embed(input_ids)
        for layer in self.layers:
            hidden = layer(hidden, cache, grows=True)
        return hidden, cache.states[-1]


def test_a_cache_that_is_a_module_is_filled_too():
    with torch.device("meta"):
        model = DecoderWithAModule(0, True)
    devices = {f"layers.{index}": f"cuda:{index // 4}" for index in range(8)}
    folded, full = forwards(model, {"embed": "cuda:0", **devices})
    assert folded.error is None and told(folded) == told(full)
    assert folded.num_ops < full.num_ops


class ScalingLayer(nn.Module):
    """Asks its weight where it lies: of an offloaded one, outside of its hook, on meta."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 8)

    def forward(self, hidden):
        scale = torch.tensor([0.5], device=self.up.weight.device)
        return self.up(hidden) * scale


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = None
        self.embed = nn.Embedding(50, 8)
        self.layers = nn.ModuleList(ScalingLayer() for _ in range(8))

    def forward(self, input_ids):
        hidden = self.embed(input_ids)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


def test_what_model_code_makes_on_meta_lies_there_in_folded_layers_too():
    with torch.device("meta"):
        model = Scaled()
    folded, full = forwards(model, {"embed": "cuda:0", "layers": "cpu"})
    assert told(folded) == told(full)
    assert folded.num_ops < full.num_ops
    (mismatch,) = folded.mismatches
    assert {operand.device for operand in mismatch.operands} == {"cuda:0", "meta"}
    assert mismatch.op == "aten.mul.Tensor" and mismatch.count == 8


class CountingLayer(Layer):
    """Counts its tokens in a tensor of real numbers, which code may read."""

    def forward(self, hidden, cache, grows):
        cache.states.append(torch.tensor([hidden.shape[1]]))
        return self.up(hidden)


class Counting(Decoder):
    def __init__(self) -> None:
        super().__init__(0, True)
        self.layers = nn.ModuleList(CountingLayer(index) for index in range(8))

    def forward(self, input_ids):
        cache, hidden = Cache([]), self.embed(input_ids)
        for layer in self.layers:
            hidden = layer(hidden, cache, grows=True)
        cache.states[0].add_(1)  # of the first layer alone
        if [state.tolist() for state in cache.states] != [[9], *[[8]] * 7]:
            raise ValueError(f"counted {cache.states}")
        return hidden


def test_real_numbers_that_a_layer_keeps_are_those_of_folded_layers_too():
    with torch.device("meta"):
        model = Counting()
    folded, full = forwards(model, {"embed": "cuda:0", "layers": "cuda:0"})
    assert full.error is None and folded.error is None
    assert told(folded) == told(full)
    assert folded.num_ops < full.num_ops


class StateWithParts:
    def __init__(self, own: torch.Tensor) -> None:
        self.own, self.made = own, None


# A layer's part of a cache that was there before it ran: own (its number) and made (by the layer).
KINDS = {
    "list": (lambda own: [own, None], lambda state, made: state.__setitem__(1, made)),
    "dict": (
        lambda own: {"own": own, "made": None},
        lambda state, made: state.__setitem__("made", made),
    ),
    "object": (StateWithParts, lambda state, made: setattr(state, "made", made)),
    "in a list": (
        lambda own: [[own], {"made": None}],
        lambda state, made: state[1].__setitem__("made", made),
    ),
}


def parts_of(state) -> tuple:
    if isinstance(state, StateWithParts):
        return state.own, state.made
    if isinstance(state, dict):
        return state["own"], state["made"]
    return (state[0][0], state[1]["made"]) if isinstance(state[0], list) else tuple(state)


class PartLayer(Layer):
    def forward(self, hidden, cache, fill):
        fill(cache.states[self.index], torch.tensor([hidden.shape[1]]))
        return self.up(hidden)


class WithParts(Decoder):
    def __init__(self, kind: str) -> None:
        super().__init__(0, True)
        self.kind = kind
        self.layers = nn.ModuleList(PartLayer(index) for index in range(8))

    def forward(self, input_ids):
        new, fill = KINDS[self.kind]
        cache, hidden = Cache([new(torch.tensor([i])) for i in range(8)]), self.embed(input_ids)
        for layer in self.layers:
            hidden = layer(hidden, cache, fill)
        held = [tuple(part.tolist() for part in parts_of(state)) for state in cache.states]
        if held != [([i], [8]) for i in range(8)]:
            raise ValueError(f"held {held}")
        return hidden


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_folded_layer_had_before_it_ran_stays_its_own(kind):
    with torch.device("meta"):
        model = WithParts(kind)
    folded, full = forwards(model, {"embed": "cuda:0", "layers": "cuda:0"})
    assert full.error is None and folded.error is None
    assert told(folded) == told(full)
    assert folded.num_ops < full.num_ops
