"""Diagnosis that stays with a model."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import threading
import weakref

import pytest
import torch

from devplan.core.errors import InputError
from devplan.diagnosis.attached import attach_diagnosis, detach_diagnosis
from devplan.diagnosis.from_exception import report_of
from tests.diagnosis.models import prompt, tiny_llama, without_norm


@pytest.fixture
def broken():
    return without_norm(tiny_llama())


def fails(call) -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        call()
    return caught.value


def test_generate_and_forward_tell_one_report(broken):
    attach_diagnosis(broken)
    for call in (
        lambda: broken.generate(prompt(), max_new_tokens=4),
        lambda: broken(input_ids=prompt()),
    ):
        error = fails(call)
        assert report_of(error).module == "model.layers.2.input_layernorm"
        assert len(error.__notes__) == 1


def test_the_report_of_a_forward_knows_what_generate_was_to_do(broken):
    attach_diagnosis(broken)
    report = report_of(fails(lambda: broken.generate(prompt(2, 9), max_new_tokens=4)))
    assert (report.workload.batch, report.workload.tokens, report.workload.end_tokens) == (2, 9, 13)


def test_outputs_signature_and_state_are_as_before():
    model = tiny_llama()
    before = model.generate(prompt(), max_new_tokens=4, do_sample=False)
    keys, signature = set(model.state_dict()), inspect.signature(model.forward)
    attach_diagnosis(model)
    assert torch.equal(model.generate(prompt(), max_new_tokens=4, do_sample=False), before)
    assert set(model.state_dict()) == keys
    assert inspect.signature(model.forward) == signature


def test_only_the_whole_model_is_touched_and_it_comes_off():
    model = tiny_llama()
    names = [set(vars(module)) for module in model.modules()]
    attach_diagnosis(model)
    attach_diagnosis(model)
    assert set(vars(model)) - names[0] == {"forward", "generate"}
    assert [set(vars(module)) for module in model.modules()][1:] == names[1:]
    detach_diagnosis(model)
    detach_diagnosis(model)
    assert [set(vars(module)) for module in model.modules()] == names


def test_a_hooked_forward_comes_back():
    from accelerate.hooks import ModelHook, add_hook_to_module

    model = tiny_llama()
    add_hook_to_module(model, ModelHook())
    hooked = model.forward
    attach_diagnosis(model)
    assert model(input_ids=prompt()).logits.shape == (1, 7, 128)
    detach_diagnosis(model)
    assert model.forward is hooked


def test_a_copy_explains_itself_and_not_the_original(broken):
    attach_diagnosis(broken)
    for copied in (copy.deepcopy(broken), pickle.loads(pickle.dumps(broken))):
        assert copied.forward.model is copied
        copied.model.layers[2].input_layernorm = copy.deepcopy(copied.model.norm)
        copied(input_ids=prompt())
        copied.model.norm.to("meta")
        error = fails(lambda copied=copied: copied(input_ids=prompt()))
        assert report_of(error).module == "model.norm"


def test_a_model_that_is_dropped_is_gone_at_once():
    model = tiny_llama()
    attach_diagnosis(model)
    gone = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert gone() is None
    finally:
        gc.enable()


def test_a_thread_of_its_own_is_covered(broken):
    attach_diagnosis(broken)
    caught = []

    def work():
        try:
            broken.generate(prompt(), max_new_tokens=2)
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert report_of(caught[0]).module == "model.layers.2.input_layernorm"


def test_a_map_that_is_not_there_is_said_at_once():
    model = tiny_llama()
    with pytest.raises(InputError, match=r"there is no map absent\.yaml"):
        attach_diagnosis(model, "absent.yaml")
    assert "forward" not in vars(model)
