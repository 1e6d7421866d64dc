"""A virtual run leaves nothing behind: not in the model, not in torch, whatever happens inside."""

from __future__ import annotations

import functools
import gc
import os
import threading

import pytest
import torch
from torch import nn
from torch.overrides import _len_torch_function_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode

from devplan.core.workload import Workload
from devplan.models.blocks import partition
from devplan.profile.runs import measure_run
from tests.profile.twins import CASES
from tests.virtual.models import skeleton_of_module, skeleton_of_type

WORKLOAD = Workload(context=256)
STATEFUL = ["llama", "recurrent_gemma", "gemma3_text", "qwen3_next", "t5", "llama4_text"]


def state_of(model: nn.Module) -> list:
    """Every module with its attributes, parameters, buffers, hooks and labels."""
    seen = []
    for name, module in model.named_modules():
        seen.append((name, sorted(vars(module)), module.forward.__func__))
        for attribute, value in vars(module).items():
            if attribute not in ("_parameters", "_buffers", "_modules"):
                seen.append((name, attribute, id(value), str(value)[:200]))
        for kind in (module._parameters, module._buffers):
            for tensor_name, tensor in kind.items():
                labels = sorted(vars(tensor)) if tensor is not None else None
                seen.append((name, tensor_name, id(tensor), labels))
    return seen


def state_of_torch() -> list:
    functions = [id(getattr(torch.cuda, name)) for name in dir(torch.cuda)]
    return [
        functions,
        _len_torch_function_stack(),
        _get_current_dispatch_mode(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        gc.get_freeze_count(),
    ]


@pytest.mark.parametrize("model_type", STATEFUL)
def test_nothing_is_left(model_type):
    skeleton = skeleton_of_type(model_type, **dict(CASES)[model_type])
    sites = partition(skeleton.model, skeleton.no_split)
    before = state_of(skeleton.model), state_of_torch()
    first = measure_run(skeleton, sites, WORKLOAD)
    assert (state_of(skeleton.model), state_of_torch()) == before
    assert first.order
    assert measure_run(skeleton, sites, WORKLOAD) == first


@functools.lru_cache
def positions(length: int, device: torch.device) -> torch.Tensor:
    return torch.arange(length, device=device)


def once(function):
    """As transformers' own decorator does it: the cache is in a cell."""
    cached = functools.lru_cache(function)

    @functools.wraps(function)
    def wrapper(*args):
        return cached(*args)

    return wrapper


class Remembering(nn.Module):
    """Keeps what it made for the next call, as detectors keep anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)

    @staticmethod
    @once
    def anchors(length: int, device: torch.device) -> torch.Tensor:
        return torch.rand(length, 1, device=device)

    def forward(self, input_ids):
        length = input_ids.shape[1]
        assert positions(length, input_ids.device).device == input_ids.device
        return self.embed(input_ids) * self.anchors(length, torch.device("cuda", 0))


def test_remembered_results_are_forgotten():
    with torch.device("meta"):
        model = Remembering()
    skeleton = skeleton_of_module(model)
    run = measure_run(skeleton, partition(model), WORKLOAD)
    assert run.order and not run.notes
    assert positions.cache_info().currsize == 0
    assert model.anchors.__closure__[0].cell_contents.cache_info().currsize == 0


class Failing(nn.Module):
    """Changes itself, then raises."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.register_buffer("counts", torch.zeros(4, dtype=torch.int64))
        self.error = error

    def forward(self, input_ids):
        self.memory = self.embed(input_ids)
        self.counts = torch.ones(4, dtype=torch.int64)
        self.register_buffer("new", torch.ones(2))
        raise self.error


def failing(error: BaseException):
    with torch.device("meta"):
        return skeleton_of_module(Failing(error))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("two\nlines"),
        ValueError(),
        AssertionError("x"),
        RecursionError("deep"),
        NotImplementedError("aten::something"),
        KeyError("missing"),
        MemoryError(),
        StopIteration(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_error_of_a_model_becomes_one_line(error):
    skeleton = failing(error)
    before = state_of(skeleton.model), state_of_torch()
    run = measure_run(skeleton, partition(skeleton.model), WORKLOAD)
    assert (state_of(skeleton.model), state_of_torch()) == before
    assert run.order == () and run.cache == {}
    (note,) = run.notes
    assert "\n" not in note
    assert type(error).__name__ in note
    assert "KV cache is not counted" in note and "order is that of the module tree" in note


class Setting(nn.Module):
    """Sets a variable of the environment and removes another, as ``generate`` of transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)

    def forward(self, input_ids):
        os.environ["DEVPLAN_SET_INSIDE"] = "1"
        del os.environ["DEVPLAN_SET_BEFORE"]
        return self.embed(input_ids)


def test_the_environment_is_as_before(monkeypatch):
    monkeypatch.setenv("DEVPLAN_SET_BEFORE", "1")
    before = dict(os.environ)
    with torch.device("meta"):
        skeleton = skeleton_of_module(Setting())
    assert measure_run(skeleton, partition(skeleton.model), WORKLOAD).order
    assert dict(os.environ) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupt_passes_through(error):
    skeleton = failing(error)
    before = state_of(skeleton.model), state_of_torch()
    with pytest.raises(type(error)):
        measure_run(skeleton, partition(skeleton.model), WORKLOAD)
    assert (state_of(skeleton.model), state_of_torch()) == before


def test_from_another_thread_and_below_a_device_context():
    skeleton = skeleton_of_type("llama", **dict(CASES)["llama"])
    sites = partition(skeleton.model, skeleton.no_split)
    runs = [measure_run(skeleton, sites, WORKLOAD)]
    thread = threading.Thread(
        target=lambda: runs.append(measure_run(skeleton, sites, WORKLOAD)), name="second"
    )
    thread.start()
    thread.join()
    with torch.device("meta"):
        runs.append(measure_run(skeleton, sites, WORKLOAD))
    with torch.inference_mode():
        runs.append(measure_run(skeleton, sites, WORKLOAD))
    assert len(runs) == 4
    assert runs[0].cache
    for run in runs[1:]:
        assert run == runs[0]


def test_code_that_is_not_here_is_not_run():
    skeleton = skeleton_of_type("llama", **dict(CASES)["llama"])
    from dataclasses import replace

    run = measure_run(replace(skeleton, executable=False), (), WORKLOAD)
    assert run.order == ()
    assert run.notes[0].startswith("not run")


def test_a_model_that_takes_nothing_known_says_so():
    class Session(nn.Linear):
        def forward(self, session):
            return super().forward(session.frames)

    with torch.device("meta"):
        skeleton = skeleton_of_module(Session(4, 4))
    (note,) = measure_run(skeleton, partition(skeleton.model), WORKLOAD).notes
    assert "NoExampleInputs" in note and "'input_ids'" in note
