"""How a model is run: what each kind of call is given, and the names of its phases."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace

import pytest
from torch import nn
from transformers import GenerationMixin

from devplan.virtual.calls import (
    ForwardCall,
    GenerateCall,
    PartCall,
    PipelineCall,
    UserCall,
    can_generate,
    entered_part,
    follow_calls,
    follow_components,
    for_generate,
    has_forward,
    parts_with_forward,
    steps_asked_for,
    stop_tokens,
    usual_call,
)


class Speaking(nn.Module):
    def __init__(self, **config) -> None:
        super().__init__()
        self.generation_config = SimpleNamespace(**config)
        self.asked: dict = {}

    def forward(self, **inputs):
        return inputs

    def generate(self, **arguments):
        self.asked = arguments
        return arguments


class Silent(nn.Module):
    def forward(self, x=None, **more):
        return x


class OfParts(nn.Module):
    """Only ``generate``: a thinker, a vocoder, and something that cannot be run."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = Silent()
        self.thinker = Speaking()
        self.thinker.config = SimpleNamespace()
        self.stored = nn.Module()

    def generate(self, **arguments):
        return arguments


INPUTS = {"input_ids": 1, "use_cache": 2, "labels": 3, "logits_to_keep": 4, "decoder_input_ids": 5}


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({}, ["input_ids", "decoder_input_ids"]),
        ({"bos_token_id": None}, ["input_ids", "decoder_input_ids"]),
        ({"bos_token_id": 0}, ["input_ids"]),
        ({"decoder_start_token_id": 3}, ["input_ids"]),
    ],
)
def test_generate_decides_some_inputs_for_itself(config, names):
    model = Speaking(**config)
    assert list(for_generate(model, INPUTS)) == names
    for call in (GenerateCall(), UserCall(function=print)):
        assert list(call.takes(model, INPUTS)) == names
    for call in (ForwardCall(), PipelineCall()):
        assert call.takes(model, INPUTS) == INPUTS


def test_generate_is_greedy_for_three_tokens_unless_asked_otherwise():
    model = Speaking()
    given = GenerateCall(arguments={"do_sample": True}).run(model, {"input_ids": 1})
    assert given == {"max_new_tokens": 3, "do_sample": True, "input_ids": 1}
    # One of parts hands on what it is given, and is given no more than was asked.
    assert GenerateCall().run(OfParts(), {"input_ids": 1}) == {"input_ids": 1}


def test_phases_have_names():
    assert list(islice(ForwardCall().phases(), 2)) == ["forward", "forward"]
    assert list(islice(GenerateCall().phases(), 3)) == ["prefill", "decode 1", "decode 2"]
    assert list(islice(UserCall(function=print).phases(), 2)) == ["forward 1", "forward 2"]
    part = PartCall(part="thinker", call=GenerateCall())
    assert (part.name, next(part.phases())) == ("thinker generate", "prefill")
    assert part.run(OfParts(), {"a": 1}) == {"max_new_tokens": 3, "do_sample": False, "a": 1}
    assert list(part.takes(OfParts(), INPUTS)) == ["input_ids", "decoder_input_ids"]
    assert UserCall(function=print).name == "print"


class OfTransformers(Speaking, GenerationMixin):
    generate = GenerationMixin.generate


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({}, ("prefill", "decode 1", "decode 2")),
        ({"max_new_tokens": 2}, ("prefill", "decode 1")),
        ({"max_new_tokens": 1}, ("prefill",)),
        ({"max_new_tokens": 50}, ("prefill", "decode 1", "decode 2")),
        ({"max_length": 9}, ()),
        ({"max_new_tokens": None}, ()),
    ],
)
def test_steps_that_generate_has_to_have(arguments, steps):
    call = GenerateCall(arguments=arguments)
    assert steps_asked_for(OfTransformers(), call) == steps
    assert steps_asked_for(Speaking(), call) == ()
    assert steps_asked_for(OfTransformers(), ForwardCall()) == ()


def test_stop_tokens_are_those_of_arguments_and_of_all_parts():
    model = nn.ModuleList([Speaking(eos_token_id=[2, 3]), Speaking(eos_token_id=7), Silent()])
    model.generation_config = SimpleNamespace(eos_token_id=None)
    assert stop_tokens(model, {}) == {2, 3, 7}
    assert stop_tokens(model, {"eos_token_id": 0}) == {0, 2, 3, 7}
    assert stop_tokens(Silent(), {"eos_token_id": [1, True, None]}) == {1}


def test_how_a_model_is_used():
    assert isinstance(usual_call(Silent()), ForwardCall)
    assert usual_call(Speaking(), {"top_k": 2}) == GenerateCall(arguments={"top_k": 2})
    assert usual_call(Speaking()) == GenerateCall()
    model = Speaking()
    model.can_generate = lambda: False
    assert not can_generate(model) and isinstance(usual_call(model), ForwardCall)


def test_parts_of_a_model_without_forward():
    model = OfParts()
    assert not has_forward(model) and has_forward(model.plain)
    assert [name for name, _ in parts_with_forward(model)] == ["plain", "thinker"]
    assert entered_part(model) == ("thinker", model.thinker)
    assert list(parts_with_forward(model.plain)) == [] and entered_part(model.plain) is None


def test_calls_begin_and_end_phases():
    events = []
    model = Silent()
    follow_calls(model, iter("ab"), events.append, lambda *ended: events.append(ended))
    assert (model(1), model(2)) == (1, 2)
    assert events == ["a", ("", 1), "b", ("", 2)]
    events.clear()
    model = OfParts()
    follow_calls(model, iter("ab"), events.append, lambda *ended: events.append(ended))
    model.plain(1), model.plain(2), model.thinker(), model.thinker(), model.thinker()
    assert events == [
        *("plain", ("plain", 1), "plain", ("plain", 2)),
        *("thinker prefill", ("thinker", {}), "thinker decode 1", ("thinker", {})),
        *("thinker decode 2", ("thinker", {})),
    ]


def test_components_begin_phases_by_each_of_their_entries():
    model = nn.Module()
    model.vae, model.text = Silent(), Silent()
    model.vae.decode = lambda x: x + 1
    begun = []
    follow_components(model, begun.append)
    assert (model.text(1), model.vae.decode(1), model.vae(3)) == (1, 2, 3)
    assert begun == ["text", "vae", "vae"]
