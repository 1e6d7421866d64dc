"""Wrong calls from Python: one sentence each, whatever is given to whichever public function."""

from __future__ import annotations

import copy
from inspect import isfunction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import devplan
from devplan.core.errors import InputError
from devplan.core.types import Machine

NAME = "Qwen/Qwen3-8B"
CARDS = "24GiB,12GiB"
MAP = {
    "model.embed_tokens": 0,
    "model.layers.0": 0,
    "model.layers.1": 1,
    "model.norm": 1,
    "model.rotary_emb": 0,
    "lm_head": 1,
}
CONFIG = LlamaConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
MODEL = LlamaForCausalLM(CONFIG).eval()
HERE = Path(__file__).parent


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("nobody may ask")


WRONG = {
    "suggest": [
        ((None, CARDS), {}),
        ((7, CARDS), {}),
        (("", CARDS), {}),
        ((MODEL, CARDS), {}),
        ((NAME, None), {}),
        ((NAME, []), {}),
        ((NAME, {}), {}),
        ((NAME, 24.0), {}),
        ((NAME, True), {}),
        ((NAME, ["24GiB", None]), {}),
        ((NAME, -1), {}),
        ((NAME, 10**5000), {}),
        ((NAME, CARDS, {"context": 5}), {}),
        ((NAME, CARDS, 32768), {}),
        ((NAME, CARDS), {"objective": "fastest"}),
        ((NAME, CARDS), {"objective": None}),
        ((NAME, CARDS), {"pins": ["lm_head=1"]}),
        ((NAME, CARDS), {"pins": {"lm_head": None}}),
        ((NAME, CARDS), {"pins": {1: "cuda:1"}}),
        ((NAME, CARDS), {"trust_remote_code": "no"}),
        ((NAME, CARDS), {"verify": 1}),
        ((NAME, CARDS), {"revision": 5}),
        ((NAME, CARDS), {"inputs": len}),
        ((NAME, CARDS), {"progress": None}),
    ],
    "check": [
        ((None, MAP), {}),
        (([], MAP), {}),
        (({"model_type": "llama"}, MAP), {}),
        ((LlamaForCausalLM, MAP), {}),
        ((Unprintable(), MAP), {}),
        ((CONFIG, None), {}),
        ((CONFIG, []), {}),
        ((CONFIG, {}), {}),
        ((CONFIG, 5), {}),
        ((CONFIG, ""), {}),
        ((CONFIG, HERE), {}),
        ((CONFIG, torch.device("cuda:0")), {}),
        ((CONFIG, {"model": Unprintable}), {}),
        ((CONFIG, {b"model": 0}), {}),
        ((CONFIG, MAP), {"machine": 12.5}),
        ((CONFIG, MAP), {"machine": {"cuda:0": "24GiB"}}),
        ((CONFIG, MAP), {"main_device": "gpu"}),
        ((CONFIG, MAP), {"main_device": 1.0}),
        ((CONFIG, MAP), {"workload": {"batch": 1}}),
        ((CONFIG, MAP), {"options": {"run": "forward"}}),
        ((CONFIG, MAP), {"options": devplan.RunOptions}),
        ((CONFIG, MAP), {"packed": "yes"}),
        ((CONFIG, MAP), {"environment": "here"}),
        ((torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), {"": 0}), {}),
    ],
    "read_environment": [((5,), {}), (("",), {})],
    "fit": [
        ((None, [CARDS]), {}),
        ((NAME, 5), {}),
        ((NAME, [None]), {}),
        ((NAME, [["24GiB", {}]]), {}),
        ((NAME,), {"cards": 5}),
        ((NAME,), {"cards": [24]}),
        ((NAME, [CARDS]), {"workload": "32k"}),
        ((NAME, [CARDS]), {"reserve": 1}),
    ],
    "compare": [((None, CARDS), {}), ((NAME, object()), {}), ((NAME, CARDS, []), {})],
    "diff": [
        ((NAME, None, "auto"), {"machine": CARDS}),
        ((NAME, "auto", 5), {"machine": CARDS}),
        ((NAME, "auto"), {"machine": CARDS}),
        ((MODEL, "auto", "sequential"), {"machine": CARDS}),
        ((NAME, "auto", "sequential"), {"machine": set()}),
        ((NAME, "auto", "sequential"), {"machine": CARDS, "options": {}}),
    ],
    "load": [
        ((), {}),
        (("x", 5), {}),
        (("x", ""), {}),
        (("x", HERE), {}),
        ((5, MAP), {}),
        (("x", MAP), {"devices": ["cpu"]}),
        (("x", MAP), {"on_difference": "ignore"}),
        (("x", MAP), {"on_difference": []}),
        (("x", MAP), {"offload_folder": 5}),
        (("x", MAP), {"trust_remote_code": "False"}),
    ],
    "apply": [
        ((None, MAP), {}),
        (("model", MAP), {}),
        ((MODEL, None), {}),
        ((MODEL, MAP), {"devices": "cpu"}),
        ((MODEL, MAP), {"devices": {"cuda:0": object()}}),
        ((MODEL, MAP), {"on_difference": None}),
        ((MODEL, MAP), {"offload_buffers": "yes"}),
    ],
    "audit": [((None, MAP), {}), ((MODEL, 7), {}), ((MODEL, MAP), {"devices": 5})],
    "device_map": [((None,), {}), (([],), {}), ((HERE,), {}), ((MAP,), {"devices": "cpu"})],
    "read_map": [((None,), {}), ((5,), {}), (("",), {}), ((HERE,), {}), ((b"map.yaml",), {})],
    "write_map": [
        ((None, "map.yaml"), {}),
        ((MAP, "map.yaml"), {}),
        (("map.yaml", "map.yaml"), {}),
    ],
    "parse_gpus": [
        ((None,), {}),
        ((["24GiB", []],), {}),
        ((np.float32(24),), {}),
        ((CARDS,), {"memory": 5.5}),
        ((CARDS,), {"main": []}),
        ((CARDS,), {"offload": 5}),
        ((CARDS,), {"offload": [None]}),
        ((CARDS,), {"links": 5}),
    ],
    "to_main": [((None, {}), {}), (("cuda:0", {}), {})],
    "patch_embeddings": [((None,), {}), ((MODEL, 5), {}), ((MODEL, [None]), {})],
    "unpatch_embeddings": [((None,), {}), ((MODEL, {"a": 1}), {})],
    "cache_transfers": [((None,), {}), ((LlamaForCausalLM,), {})],
    "needed_patch": [
        ((None, MAP), {}),
        ((CONFIG, 5), {}),
        ((CONFIG, MAP), {"options": "forward"}),
        ((CONFIG, MAP), {"machine": ()}),
    ],
    "diagnose": [((MODEL, "nowhere.yaml"), {}), ((MODEL, 5), {}), ((5,), {})],
    "attach_diagnosis": [((MODEL, "nowhere.yaml"), {}), ((5,), {})],
    "detach_diagnosis": [((5,), {}), ((MAP,), {})],
    "report_of": [((None,), {}), (("RuntimeError",), {})],
    "Workload": [
        ((), {"batch": 0}),
        ((), {"batch": True}),
        ((), {"context": "32k"}),
        ((), {"context": 2**40}),
        ((), {"dtype": 16}),
        ((), {"dtype": "float17"}),
        ((), {"image_size": 448}),
        ((), {"image_size": (0, 5)}),
        ((), {"tiling": 1}),
    ],
    "RunOptions": [
        ((), {"run": "backward"}),
        ((), {"run": None}),
        ((), {"generation": ["num_beams=2"]}),
        ((), {"request": {}}),
        ((), {"images": -1}),
        ((), {"timeout_s": 0}),
        ((), {"timeout_s": float("inf")}),
        ((), {"timeout_s": True}),
        ((), {"full": "yes"}),
    ],
}
CASES = [(name, *call) for name, calls in WRONG.items() for call in calls]


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    CASES,
    ids=[f"{name}-{number}" for number, (name, *_) in enumerate(CASES)],
)
def test_a_wrong_call_is_one_sentence(name, args, kwargs):
    with pytest.raises(InputError) as refused:
        getattr(devplan, name)(*args, **kwargs)
    said = str(refused.value)
    assert "\n" not in said and 20 < len(said) < 400, said


def test_every_public_function_has_its_wrong_calls():
    functions = {each for each in devplan.__all__ if isfunction(getattr(devplan, each))}
    assert {*WRONG} == {*functions, "Workload", "RunOptions"} and len(CASES) >= 60


@pytest.mark.parametrize(
    "wrong_way_round",
    [
        lambda: devplan.check("maps/x.yaml", NAME),
        lambda: devplan.check(MAP, CONFIG),
        lambda: devplan.needed_patch(MAP, MODEL),
        lambda: devplan.load("maps/x.yaml"),
        lambda: devplan.load(Path("maps/x.yaml"), "./checkpoint"),
        lambda: devplan.apply(MAP, MODEL),
        lambda: devplan.audit("maps/x.yaml", MODEL),
        lambda: devplan.diff("maps/a.yaml", "maps/b.yaml"),
        lambda: devplan.diagnose("maps/x.yaml", MODEL),
        lambda: devplan.attach_diagnosis(MAP, MODEL),
    ],
)
def test_a_map_in_place_of_the_model_is_told_the_order(wrong_way_round):
    with pytest.raises(
        InputError, match=r"the model comes first: devplan\.\w+\(MODEL, "
    ) as refused:
        wrong_way_round()
    assert "\n" not in str(refused.value)


def test_a_missing_argument_is_pythons_own_error():
    with pytest.raises(TypeError, match="suggest: missing a required argument: 'machine'"):
        devplan.suggest(NAME)
    with pytest.raises(TypeError, match="colour"):
        devplan.check(CONFIG, MAP, colour="red")


# ------------------------------------------------------------------------- machines in every form


@pytest.mark.parametrize(
    "cards",
    [
        "24GiB,12GiB",
        ["24GiB", "12GiB"],
        ("24 gib", "12GiB"),
        [24 * 2**30, 12 * 2**30],
        [np.int64(24 * 2**30), "12GiB"],
        ["24GiB,12GiB"],
    ],
    ids=str,
)
def test_machines_are_text_or_lists(cards):
    assert devplan.parse_gpus(cards) == devplan.parse_gpus("24GiB,12GiB")


def test_a_number_is_an_index_where_it_is_small():
    machine = devplan.parse_gpus([1, torch.device("cuda:0")], memory=["24GiB", "12GiB"])
    assert machine.devices == ("cuda:1", "cuda:0")


@pytest.mark.parametrize("machine", ["1GiB,1GiB", ["1GiB", "1GiB"], devplan.parse_gpus("2x1GiB")])
def test_machines_are_taken_alike_everywhere(machine):
    checked = devplan.check(CONFIG, MAP, machine=machine)
    assert checked.is_clean and devplan.needed_patch(CONFIG, MAP, machine=machine).names == ()
    from devplan.machine.parse import as_machine
    from devplan.workflows.fitting import _machines

    is_list = isinstance(machine, list)
    (one,) = _machines("machines", [machine] if is_list else machine)
    assert isinstance(as_machine("machines", one), Machine)


def test_the_main_device_of_zero_is_not_forgotten():
    second = devplan.parse_gpus("1GiB,1GiB", main=1)
    codes = {each.code for each in devplan.check(CONFIG, MAP, machine=second).findings}
    assert "DP205" in codes  # the embedding is on the first
    for main in (0, np.int64(0), "cuda:0", torch.device("cuda:0")):
        checked = devplan.check(CONFIG, MAP, machine=second, main_device=main)
        assert "DP205" not in {each.code for each in checked.findings}


# ------------------------------------------------------------------------------ what fits nowhere


def test_a_suggestion_is_written_or_says_why_not(tmp_path):
    found = devplan.suggest(NAME, ["4GiB"], verify=False)
    assert found.map_file is None
    path = tmp_path / "map.yaml"
    with pytest.raises(
        InputError, match=r"no map of Qwen/Qwen3-8B, as nothing fits: weights need .*fit: "
    ):
        devplan.write_map(found, path)
    with pytest.raises(InputError, match="nothing fits"):
        devplan.check(NAME, found)
    assert not path.exists()
    fits = devplan.suggest(NAME, ["24GiB"], verify=False)
    devplan.write_map(fits, path)
    assert devplan.read_map(path) == fits.map_file == fits.checked_map
    assert devplan.device_map(fits) == devplan.device_map(path)


# ---------------------------------------------------------------------------------- wrapped models


class Adapted(nn.Module):
    """As peft's models are: it answers for the model inside, hooks and all."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.base_model = nn.Module()
        self.base_model.model = model

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_model")._modules["model"], name)

    def get_base_model(self) -> nn.Module:
        return self.base_model.model


def dispatched() -> nn.Module:
    from accelerate import dispatch_model

    model = copy.deepcopy(MODEL)
    devices = {"model": "cpu", "lm_head": "cpu"}
    return dispatch_model(model, devices, main_device="cpu", force_hooks=True)


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (lambda: torch.compile(MODEL), "_orig_mod."),
        (lambda: nn.DataParallel(MODEL), "module."),
        (lambda: Adapted(dispatched()), "base_model.model."),
        (lambda: torch.compile(Adapted(MODEL)), "_orig_mod.base_model.model."),
        (lambda: dispatched(), ""),
    ],
    ids=["compiled", "parallel", "adapted", "both", "dispatched"],
)
def test_a_wrapped_model_is_checked_as_the_model_inside(wrap, prefix):
    model = wrap()
    plain = devplan.check(MODEL, MAP)
    assert plain.is_clean
    assert devplan.check(model, MAP).findings == plain.findings
    renamed = {f"{prefix}{name}": device for name, device in MAP.items()}
    assert devplan.check(model, renamed).is_clean
    assert devplan.to_main(model, [torch.zeros(1)])[0].device.type == "cpu"


def test_parameters_that_are_cut_are_refused():
    class FullyShardedDataParallel(nn.Module):
        pass

    with pytest.raises(InputError, match="cut over processes"):
        devplan.check(FullyShardedDataParallel(), MAP)


def test_a_model_that_cannot_be_copied_is_refused():
    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo):
            raise RuntimeError("not\nthis one")

    with pytest.raises(InputError, match="cannot be copied") as refused:
        devplan.check(Stubborn(2, 2), {"": 0})
    assert "\n" not in str(refused.value)
