"""Models and maps in all their forms become the same subject."""

from __future__ import annotations

import pytest
import torch
from accelerate import dispatch_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    CLIPConfig,
    FunnelConfig,
    LlavaConfig,
    PretrainedConfig,
    T5Config,
)

from devplan.checker.from_model import source_of_config
from devplan.checker.preparation import prepare
from devplan.checker.running import virtual_cards
from devplan.core.devices import chosen_by_accelerate
from devplan.core.errors import InputError
from devplan.machine.parse import parse_gpus
from tests.checks.case import model_name
from tests.checks.structure_only import check_structure
from tests.report.example_plans import MAP_FILE

LLAMA = model_name("tiny_llama")
MAP = {"model.embed_tokens": 0, "model.layers": 0, "model.norm": 1, "lm_head": 1}
CARDS = parse_gpus("24GiB,12GiB")


def codes(result) -> list[str]:
    return [d.code for d in result.findings]


def config():
    return AutoConfig.from_pretrained(LLAMA)


def test_name_config_and_live_model_agree():
    live = AutoModelForCausalLM.from_config(config())
    results = [check_structure(model, MAP) for model in (LLAMA, config(), live)]
    assert codes(results[0]) == ["DP203", "DP001", "DP901"]
    assert [codes(result) for result in results] == [codes(results[0])] * 3
    assert {result.class_name for result in results} == {"LlamaForCausalLM"}


def test_a_folder_is_what_it_is_now(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layers = []
    for num_layers in (2, 3):
        small = config()
        small.num_hidden_layers = num_layers
        small.save_pretrained("model")
        prepared = prepare("./model", {"": 0}, machine=CARDS)
        layers.append(prepared.skeleton.config.num_hidden_layers)
    assert layers == [2, 3]


def test_config_without_architectures():
    bare = config()
    bare.architectures = None
    assert check_structure(bare, MAP).class_name == "LlamaForCausalLM"


@pytest.mark.parametrize(
    ("config", "class_name"),
    [
        (T5Config(), "T5ForConditionalGeneration"),
        (LlavaConfig(), "LlavaForConditionalGeneration"),
        # without a head: where transformers has several the first, as its Auto classes take it
        (CLIPConfig(), "CLIPModel"),
        (FunnelConfig(), "FunnelModel"),
    ],
)
def test_a_configuration_that_names_no_class_means_the_one_of_its_type(config, class_name):
    assert config.architectures is None
    assert source_of_config(config).class_name == class_name


def test_a_configuration_of_an_unknown_type_has_to_name_its_class():
    class OwnConfig(PretrainedConfig):
        model_type = "own"

    with pytest.raises(InputError, match=r"OwnConfig names no class; set config\.architectures"):
        source_of_config(OwnConfig())


def test_live_model_is_left_alone():
    live = AutoModelForCausalLM.from_config(config()).eval()
    ids = torch.arange(8)[None]
    before = live(ids).logits
    check_structure(live, MAP)
    assert torch.equal(live(ids).logits, before)
    assert all(p.device.type == "cpu" for p in live.parameters())


def test_live_model_with_hooks():
    live = AutoModelForCausalLM.from_config(config())
    dispatch_model(live, {"": "cpu"}, main_device="cpu", force_hooks=True)
    hooked = live.forward
    assert codes(check_structure(live, MAP)) == ["DP203", "DP001", "DP901"]
    assert live.forward is hooked and hasattr(live, "_hf_hook")


class Sizes(nn.Module):
    """A user's own module with a tied weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


def test_own_module():
    assert "DP203" in codes(check_structure(Sizes(), {"first": 0, "second": 1}))
    assert "DP203" not in codes(check_structure(Sizes(), {"first": 0, "second": 0}))


def test_map_for_another_model():
    with pytest.raises(InputError) as caught:
        prepare(LLAMA, {"transformer.wte": 0, "transformer.h.77": 1})
    assert "is a map for another model: LlamaForCausalLM" in str(caught.value)
    assert "'transformer.wte'" in str(caught.value)


def test_a_map_that_shares_a_quarter_of_its_names_is_looked_at():
    known = {"model.norm": 0}
    at_most = {**known, "a": 0, "b": 0, "c": 0}
    assert prepare(LLAMA, at_most).map.entries[1].key == "a"
    with pytest.raises(InputError, match=r"lacks 4 of its 5 modules, such as 'a'$"):
        prepare(LLAMA, {**at_most, "d": 0})


def test_map_file_says_which_model_it_was_made_for():
    with pytest.raises(InputError) as caught:
        prepare(model_name("tiny_t5"), MAP_FILE)
    assert f"it was made for {MAP_FILE.model.id}" in str(caught.value)


def test_bare_map_fits_a_model_of_the_catalogue():
    layers = {f"model.layers.{index}": index // 18 for index in range(36)}
    bare = {"model.embed_tokens": 0, **layers, "model.norm": 1, "lm_head": 1}
    with pytest.raises(InputError) as caught:
        prepare(LLAMA, bare)
    assert "lacks 30 of its 39 modules, such as 'model.layers.6'; it fits Qwen/Qwen3-8B" in str(
        caught.value
    )


def test_auto_is_what_accelerate_chooses():
    subject = prepare(LLAMA, "auto", machine=CARDS)
    assert set(subject.devices) == {"cuda:0", "cuda:1"}
    assert "device_map='auto'" in subject.map.name
    sequential = prepare(LLAMA, "sequential", machine=CARDS)
    assert sequential.devices == ("cuda:0",)


def test_auto_is_quiet_about_cards_that_are_not_here(caplog, capfd):
    with caplog.at_level("DEBUG"):
        prepare(LLAMA, "auto", machine=CARDS)
    assert "not available" not in caplog.text
    assert "not available" not in "".join(capfd.readouterr())


def test_auto_needs_cards():
    with pytest.raises(InputError, match="--gpus"):
        prepare(LLAMA, "auto")


def test_stated_machine_wins():
    subject = prepare(LLAMA, MAP, machine=CARDS, main_device="cuda:1")
    assert (subject.main_device, subject.machine) == ("cuda:1", CARDS)


@pytest.mark.parametrize(
    "version, chosen",
    [("1.15.0", "cuda:0"), ("1.14.0", "cuda:1"), ("0.34.2", "cuda:1"), ("", "cuda:0")],
)
def test_main_device_by_release(version, chosen):
    assert chosen_by_accelerate(["cpu", "cuda:1", "cuda:0"], version) == chosen


def test_a_main_device_that_is_named_wins_over_the_machines_and_that_over_accelerates():
    second = {"": 1}  # accelerate computes offloaded weights where the map puts the rest
    named = prepare(LLAMA, second, machine=CARDS, main_device="cuda:1")
    of_machine = prepare(LLAMA, second, machine=CARDS)
    chosen = prepare(LLAMA, second)
    assert [each.main_device for each in (named, of_machine, chosen)] == [
        "cuda:1",
        "cuda:0",
        "cuda:1",
    ]
    assert [each.stated_main for each in (named, of_machine, chosen)] == [True, True, False]


def test_no_card_no_main_device():
    assert chosen_by_accelerate(["cpu", "disk"], "1.15.0") is None


def test_a_virtual_machine_has_every_card_up_to_the_last_that_is_named():
    cards = virtual_cards(prepare(LLAMA, {"": 0, "lm_head": "cuda:3"}, machine=CARDS))
    assert [card.total_bytes for card in cards] == [24 << 30, 12 << 30, 80 << 30, 80 << 30]
    assert [card.name for card in cards[2:]] == ["virtual GPU"] * 2
    assert len(virtual_cards(prepare(LLAMA, {"": "cpu"}))) == 1
