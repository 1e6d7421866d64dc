"""Maps side by side: whoever made them, they are run and counted in the same way."""

from __future__ import annotations

import pytest

import devplan
from devplan.core.errors import InputError
from devplan.core.types import DeviceMemory
from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.workflows.evaluation import peak_share
from devplan.workflows.suggesting import suggest
from tests.small_models import small_llama

ASKED = Workload(context=1024)
MACHINE = parse_gpus("512MiB,256MiB", reserve="0")


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> str:
    return small_llama(tmp_path_factory.mktemp("models") / "small-llama")


@pytest.fixture(scope="module")
def comparison(llama):
    return devplan.compare(llama, MACHINE, ASKED)


@pytest.fixture(scope="module")
def suggestion(llama):
    return suggest(llama, MACHINE, ASKED)


# --------------------------------------------------------------------------------- comparison


def test_every_planner_was_asked_and_its_map_run(comparison):
    names = [each.name for each in comparison.contenders]
    assert names == ["devplan", "accelerate", "auto", "balanced_low_0", "sequential"]
    for each in comparison.contenders:
        assert each.judged.subject.runs, each.name
        assert each.judged.has_run


def test_devplans_map_is_the_suggested_one_and_clean(comparison, suggestion):
    own = comparison.own.judged
    assert comparison.own.is_clean
    assert own.subject.device_map == suggestion.map_file.device_map
    for judged, planned in zip(own.loads, suggestion.result.loads, strict=True):
        assert judged.weight_bytes == planned.weight_bytes
        assert judged.cache_bytes == planned.cache_bytes
        assert judged.activation_bytes <= planned.activation_bytes
    # Two ways to the same number: from the plan, and from the map alone.
    most = suggestion.result.certificate.most_tokens
    assert own.most_tokens == pytest.approx(most, rel=0.01)


def test_weights_are_somewhere_in_every_map(comparison):
    totals = {
        sum(load.weight_bytes + load.buffer_bytes for load in each.judged.loads)
        + sum(each.judged.spilled_bytes.values())
        for each in comparison.contenders
    }
    assert len(totals) == 1


def test_an_overfull_card_is_a_finding(comparison):
    for each in comparison.contenders:
        full = max(peak_share(load) for load in each.judged.loads)
        codes = {error.code for error in each.judged.check.errors}
        assert ("DP101" in codes) == (full > 1), each.name


def test_transfers_are_those_of_the_run(comparison):
    own = comparison.own.judged
    (record,) = own.subject.runs
    decode = [event for event in record.transfers if event.phase == "decode 1"]
    assert own.token.num_copies == sum(event.count for event in decode) > 0
    assert own.prompt.num_bytes > own.token.num_bytes


def test_a_planner_that_raises_is_a_row(llama, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("no cards at all")

    monkeypatch.setattr("devplan.workflows.comparison.accelerate_by_hand", broken)
    found = devplan.compare(llama, MACHINE, ASKED)
    row = next(each for each in found.contenders if each.name == "accelerate")
    assert row.judged is None
    assert row.refusal == "ZeroDivisionError: no cards at all"


def test_what_does_not_fit_is_said_beside_maps_that_spill(llama):
    found = devplan.compare(llama, parse_gpus("256MiB", reserve="0"), ASKED)
    assert found.own.judged is None
    assert "nothing fits" in found.own.refusal
    auto = next(each for each in found.contenders if each.name == "auto").judged
    assert auto.spilled_bytes["cpu"] > 0
    assert not auto.is_clean or max(peak_share(load) for load in auto.loads) <= 1


# --------------------------------------------------------------------------------------- diff


def test_a_map_and_itself_are_the_same(llama, suggestion):
    found = devplan.diff(llama, suggestion.map_file, suggestion.map_file)
    assert found.is_same
    assert found.changes == ()


def test_another_spelling_is_the_same(llama):
    split = {"model.embed_tokens": 0, "model.layers": 0, "model.norm": 0, "model.rotary_emb": 0}
    found = devplan.diff(llama, {"": 0}, {**split, "lm_head": "cuda:0"}, machine=MACHINE)
    assert found.is_same


def test_what_moved_is_named_with_both_devices(llama, suggestion):
    placed = dict(suggestion.map_file.device_map)
    moved = next(name for name, device in placed.items() if name.startswith("model.layers."))
    other = "cuda:1" if placed[moved] == "cuda:0" else "cuda:0"
    changed = {**placed, moved: other}
    found = devplan.diff(llama, suggestion.map_file, changed)
    (change,) = found.changes
    assert (change.names, change.before, change.after) == ((moved,), placed[moved], other)
    assert not found.is_same

    def weights(loads: tuple[DeviceMemory, ...]) -> list[int]:
        return [load.weight_bytes for load in loads]

    before, after = weights(found.before.loads), weights(found.after.loads)
    assert before != after
    assert sum(before) == sum(after)


def test_a_block_that_one_map_divides_is_named_by_its_tensors(llama):
    whole = {"": 0}
    divided = {"": 0, "model.layers.3.mlp.up_proj": 1}
    found = devplan.diff(llama, whole, divided, machine=MACHINE)
    (change,) = found.changes
    assert change.names == ("model.layers.3.mlp.up_proj.weight",)


def test_a_strategy_is_asked_for_the_machine_of_the_other_map(llama, suggestion):
    found = devplan.diff(llama, suggestion.map_file, "sequential")
    assert found.after.name == "sequential"
    cards = [load.capacity_bytes for load in found.after.loads]
    assert cards == [card.capacity_bytes for card in MACHINE.cards]


def test_another_main_device_is_a_difference(llama):
    other = parse_gpus("512MiB,512MiB", main="1")
    found = devplan.diff(llama, {"": 0}, {"": 0}, machine=parse_gpus("512MiB,512MiB"))
    assert found.is_same
    assert found.after.subject.main_device == "cuda:0"
    moved = devplan.diff(llama, {"": 1}, {"": 0}, machine=other)
    assert not moved.is_same


def test_nobody_says_which_model_or_which_cards(llama):
    with pytest.raises(InputError, match="--model"):
        devplan.diff(before={"": 0}, after={"": 1})
    with pytest.raises(InputError, match="--gpus"):
        devplan.diff(llama, {"": 0}, {"": 1})
