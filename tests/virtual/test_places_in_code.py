"""Where in a model's code something happened, and what hooks of accelerate's say of a module."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from devplan.core.errors import InternalError
from devplan.virtual.hooks import (
    OffloadedTensors,
    brings_output_back,
    device_text,
    files_have_moved,
    hook_device,
    hook_devices,
    idle_hook,
    input_device,
    is_dispatched,
    offloaded_weights,
    offloaded_weights_of,
    places_all_inside,
    remove_hooks,
)
from devplan.virtual.limited import OpsLimit, TooManyOps
from devplan.virtual.source_lines import (
    carries,
    current_module,
    current_source,
    current_stack,
    is_devplans,
    model_error,
    modules_on_stack,
    shown_path,
    stack_of,
)

# ------------------------------------------------------------------------------------- lines


def raises(depth: int) -> None:
    if not depth:
        raise ValueError("first line\nsecond line")
    raises(depth - 1)


def error_of(depth: int) -> ValueError:
    try:
        raises(depth)
    except ValueError as error:
        return error
    raise AssertionError


def test_the_stack_of_an_error_is_its_inner_part():
    error = error_of(3)
    stack = stack_of(error)
    assert [line.function for line in stack] == ["error_of", *["raises"] * 4]
    assert stack[-1].text == 'raise ValueError("first line\\nsecond line")'
    assert stack[-1].file == "tests/virtual/test_places_in_code.py"
    assert stack_of(error, limit=2) == stack[-2:]
    assert len(stack_of(error_of(30))) == 12
    found = model_error(error, "prefill")
    assert (found.type, found.source, found.stack, found.phase) == (
        "ValueError",
        stack[-1],
        stack,
        "prefill",
    )
    assert found.message.startswith("first line") and "\n" not in found.message
    assert model_error(ValueError("x"), "").source is None


def test_the_line_that_runs_and_those_around_it():
    def inner():
        return current_source(), current_stack(), current_stack(limit=1)

    source, stack, last = inner()
    assert source == stack[-1] == last[0] and len(last) == 1
    assert source.function == "inner" and source.text.startswith("return current_source()")
    assert stack[-2].function == "test_the_line_that_runs_and_those_around_it"


@pytest.mark.parametrize(
    ("module", "is_carrier"),
    [
        ("torch.nn.modules.module", True),
        ("accelerate.hooks", True),
        ("devplan.virtual.run", True),
        ("functools", True),
        ("transformers.utils.generic", True),
        ("transformers.models.llama.modeling_llama", False),
        ("transformers.cache_utils", False),
        ("torchvision.ops", False),
        ("", False),
    ],
)
def test_code_that_carries_models(module, is_carrier):
    assert carries(module) is is_carrier


def test_paths_begin_at_the_package_or_here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shown_path.cache_clear()
    inside = "transformers/models/bark.py"
    assert shown_path(f"/x/lib/python3/site-packages/{inside}") == inside
    assert shown_path(f"/usr/lib/dist-packages/{inside}") == inside
    assert shown_path(str(tmp_path / "model.py")) == "model.py"
    assert shown_path("/elsewhere/model.py") == "/elsewhere/model.py"
    shown_path.cache_clear()


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self):
        return self.inner()


class Inner(nn.Module):
    def forward(self):
        return current_module(), list(dict.fromkeys(modules_on_stack()))


def test_the_module_that_runs_and_those_around_it():
    model = Outer()
    assert model() == (model.inner, [model.inner, model])
    assert current_module() is None and list(modules_on_stack()) == []


def test_a_slip_of_devplans_is_told_from_an_error_of_the_model():
    def raised(name: str, kind: type[Exception]) -> Exception:
        place = {"__name__": name, "kind": kind}
        exec("def f():\n    raise kind('x')", place)
        try:
            place["f"]()
        except Exception as error:
            return error
        raise AssertionError

    assert is_devplans(raised("devplan.virtual.run", KeyError))
    assert is_devplans(raised("devplan", InternalError))
    assert not is_devplans(raised("devplan.virtual.run", ValueError))
    assert not is_devplans(raised("devplanner", KeyError))
    assert not is_devplans(KeyError("never raised"))


# ------------------------------------------------------------------------------------- limits


def test_code_that_catches_everything_is_stopped_all_the_same():
    limit = OpsLimit()

    def catching():
        for block in ("a", "b"):
            try:
                limit.refuse(block)
            except BaseException:
                continue
        return "done"

    with pytest.raises(TooManyOps, match=r"^a loops over tokens$") as caught:
        limit.run(catching)
    assert (caught.value.block, limit.num_refused) == ("a", 2)
    other = OpsLimit()
    assert other.run(lambda x: x + 1, 4) == 5
    with pytest.raises(KeyError):
        other.run(lambda: {}["x"])
    with pytest.raises(TooManyOps, match="the code between the blocks loops over tokens"):
        other.run(other.refuse, None)


# -------------------------------------------------------------------------------------- hooks


@pytest.mark.parametrize(
    ("device", "text"),
    [
        (0, "cuda:0"),
        (3, "cuda:3"),
        ("cuda", "cuda:0"),
        ("cuda:1", "cuda:1"),
        (torch.device("cpu"), "cpu"),
        ("meta", "meta"),
        ("xpu", "xpu:0"),
    ],
)
def test_devices_in_words(device, text):
    assert device_text(device) == text


def hooked(*hooks) -> nn.Module:
    from accelerate.hooks import add_hook_to_module

    module = nn.Sequential(nn.Linear(2, 2))
    for position, hook in enumerate(hooks):
        add_hook_to_module(module, hook, append=position > 0)
    return module


def test_what_the_hooks_of_a_module_say():
    from accelerate.hooks import AlignDevicesHook

    bare, idle = nn.Linear(1, 1), hooked(idle_hook())
    assert not is_dispatched(bare) and not is_dispatched(idle)
    assert hook_device(idle) is None and hook_devices(idle) == ()
    one = AlignDevicesHook(execution_device="cpu", io_same_device=True)
    several = hooked(AlignDevicesHook(), idle_hook(), one)
    assert is_dispatched(several)
    assert hook_device(several) == "cpu" and hook_devices(several) == ("None", "cpu")
    assert brings_output_back(several) and not brings_output_back(hooked(AlignDevicesHook()))
    assert not places_all_inside(several) and not brings_output_back(bare)
    remove_hooks(several)
    assert not is_dispatched(several)


def test_a_hook_that_offloads_knows_the_weights():
    from accelerate.hooks import AlignDevicesHook

    weights = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
    offloading = AlignDevicesHook(execution_device="cpu", offload=True, weights_map=weights)
    module = nn.Linear(2, 2)
    from accelerate.hooks import add_hook_to_module

    add_hook_to_module(module, offloading)
    assert offloaded_weights_of(module) is weights
    assert offloaded_weights(nn.Sequential(module)) is None  # a plain dict is no loader
    assert offloaded_weights_of(nn.Linear(1, 1)) is None
    offloading.place_submodules = True
    assert places_all_inside(module)
    offloading.offload = False
    assert not places_all_inside(module) and offloaded_weights_of(module) is None


def test_inputs_enter_by_the_hook_or_beside_the_first_tensor():
    from accelerate.hooks import AlignDevicesHook

    assert input_device(nn.Linear(1, 1, device="meta")) == "meta"
    assert input_device(nn.Identity()) == "cpu"
    only_buffer = nn.Identity()
    only_buffer.register_buffer("b", torch.ones(1, device="meta"))
    assert input_device(only_buffer) == "meta"
    module = nn.Linear(1, 1)
    module._hf_hook = AlignDevicesHook(execution_device=1)
    assert input_device(module) == "cuda:1"


def test_files_that_have_moved_are_found_below_the_new_folder(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    weights = SimpleNamespace(
        save_folder=str(old / "offload"),
        state_dict={},
        index={
            "a": {"safetensors_file": str(old / "a.safetensors"), "weight_name": "x"},
            "b": {"safetensors_file": "/elsewhere/b.safetensors"},
            "c": {"dtype": "float32"},
        },
    )
    files_have_moved(weights, old, new)
    assert weights.save_folder == str(new / "offload")
    assert weights.index == {
        "a": {"safetensors_file": str(new / "a.safetensors"), "weight_name": "x"},
        "b": {"safetensors_file": "/elsewhere/b.safetensors"},
        "c": {"dtype": "float32"},
    }
    nowhere = SimpleNamespace(save_folder=None, index={})
    files_have_moved(nowhere, old, new)
    assert nowhere.save_folder is None


def test_offloaded_tensors_are_found_without_reading_them(tmp_path):
    for name in ("x.dat", "s.safetensors"):
        (tmp_path / name).write_bytes(b"1")
    here = torch.ones(2)
    inside = {"safetensors_file": str(tmp_path / "s.safetensors"), "weight_name": "w"}
    weights = SimpleNamespace(
        state_dict={"cpu": here, "tied": here, "empty": torch.ones(2, device="meta")},
        index={"x": {}, "gone": {}, "s": inside, "t": {**inside, "weight_name": "v"}},
        save_folder=str(tmp_path),
    )
    found = OffloadedTensors(weights)
    tiers = [found.tier(name) for name in ("cpu", "empty", "x", "gone", "s", "unknown")]
    assert tiers == ["cpu", None, "disk", None, "disk", None]
    assert found.identity("cpu") == found.identity("tied") != found.identity("empty")
    assert found.identity("s") != found.identity("t")
    assert found.identity("s") == (inside["safetensors_file"], "w")
    assert found.identity("unknown") is None
    assert found.identity("gone") == (str(tmp_path / "gone.dat"), "gone")
    assert OffloadedTensors(None).tier("x") is None
