"""The machine and the model at hand beside those of the map, before a byte is loaded."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace

import pytest
import transformers

import devplan
from devplan.core.errors import DeviceMapError, InputError
from devplan.loader import loading
from devplan.mapfile.read import read_map
from devplan.rules.environment import CARD_MISSING
from tests.environment.machines import card, machine
from tests.loader.checkpoints import ALL_CPU, with_offload


@pytest.fixture
def on(monkeypatch):
    """``on(card(0, 1), ...)``: a machine with these cards; gives what from_pretrained was called
    with, as nothing can be loaded on cards that are not there."""
    calls = []

    def called(place, **arguments):
        calls.append(arguments)
        raise StopIteration

    def make(*cards, **fields):
        monkeypatch.setattr(loading, "read_here", lambda _: machine(*cards, **fields))
        monkeypatch.setattr(transformers.LlamaForCausalLM, "from_pretrained", called)
        return calls

    return make


def load(tied, **arguments):
    """As far as from_pretrained."""
    try:
        devplan.load(tied.folder, tied.map, **arguments)
    except StopIteration:
        return


def test_the_machine_of_the_map(tied, on, caplog):
    calls = on(card(0, 1), card(1, 0.5), card(2, 1))
    load(tied)
    assert set(calls[0]["device_map"].values()) == {0, 1, 2}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_no_gpu(tied, on):
    calls = on()
    with pytest.raises(DeviceMapError, match="torch sees no GPU here") as refused:
        load(tied)
    assert not calls and "nothing was loaded" in str(refused.value)
    assert 'devices={"cuda:0": "cpu"' in str(refused.value)
    assert refused.value.findings[0].code == CARD_MISSING


def test_a_card_is_missing(tied, on):
    calls = on(card(0, 1), card(1, 0.5))
    with pytest.raises(DeviceMapError, match="cuda:2"):
        load(tied)
    assert not calls


def test_what_is_an_error_can_be_a_warning(tied, on, caplog):
    calls = on(card(0, 1), card(1, 0.5))
    load(tied, on_difference="warn")
    assert len(calls) == 1
    assert any("cuda:2" in r.getMessage() for r in caplog.records if r.levelname == "WARNING")


def test_other_releases_are_warned_of(tied, on, caplog):
    on(card(0, 1), card(1, 0.5), card(2, 1), versions={"transformers": "4.48.3"})
    load(tied, on_difference="warn")
    assert any("transformers 5.23.0, here is 4.48.3" in r.getMessage() for r in caplog.records)


def test_nothing_is_asked_of_cards_that_are_stood_in_for(tied, on, caplog):
    calls = on()
    load(tied, devices=ALL_CPU)
    assert set(calls[0]["device_map"].values()) == {"cpu"}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_card_that_is_not_stood_in_for_is_asked_for(tied, on):
    on(card(0, 1))
    with pytest.raises(DeviceMapError) as refused:
        load(tied, devices={"cuda:1": "cpu"})
    assert [each.module for each in refused.value.findings] == ["cuda:2"]


def test_too_little_disk_is_warned_of(tied, on, caplog):
    """What can be read where it is is not written."""
    path = with_offload(tied, {"cuda:2": "disk"})
    calls = on(card(0, 1), card(1, 0.5), disk_bytes=1000)
    with pytest.raises(StopIteration):
        devplan.load(tied.folder, path)
    assert calls
    (said,) = [r.getMessage() for r in caplog.records if "offload_folder" in r.getMessage()]
    assert "keeps on disk" in said


# ---------------------------------------------------------------------------------- remapped


@pytest.fixture
def large(tied):
    """The map as of 1 GiB, 24 GiB and 12 GiB, each card rather full."""
    map_file = read_map(tied.map)
    gib = 2**30
    sizes = {"cuda:0": gib, "cuda:1": 24 * gib, "cuda:2": 12 * gib}
    cards = tuple(
        replace(c, capacity_bytes=sizes[c.device], name=f"{sizes[c.device] // gib}GiB")
        for c in map_file.machine.cards
    )
    loads = tuple(
        replace(
            load,
            capacity_bytes=sizes[load.device],
            cache_bytes=sizes[load.device] * 7 // 10,
        )
        for load in map_file.loads
    )
    return replace(map_file, machine=replace(map_file.machine, cards=cards), loads=loads)


def test_cards_in_another_order(tied, on, large, caplog):
    calls = on(card(0, 12), card(1, 1), card(2, 24))
    with pytest.raises(DeviceMapError, match="remap=True"):
        devplan.load(tied.folder, large)
    with pytest.raises(StopIteration):
        devplan.load(tied.folder, large, remap=True)
    moves = {"cuda:0": 1, "cuda:1": 2, "cuda:2": 0}
    expected = {entry: moves[device] for entry, device in large.device_map.items()}
    assert calls[0]["device_map"] == expected
    assert any("cuda:1 of the map is cuda:2 here" in r.getMessage() for r in caplog.records)


def test_no_order_holds_it(tied, on, large):
    on(card(0, 2), card(1, 1), card(2, 4))
    with pytest.raises(InputError, match="no order of its GPUs can hold the map"):
        devplan.load(tied.folder, large, remap=True)


def test_remap_and_stand_ins(tied, on):
    on()
    with pytest.raises(InputError, match="give one"):
        load(tied, remap=True, devices=ALL_CPU)


# --------------------------------------------------------------------------------- the model


def spoilt(tied, tmp_path, **changes):
    folder = shutil.copytree(tied.folder, tmp_path / "copy")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_another_configuration_is_warned_of(tied, tmp_path, caplog):
    folder = spoilt(tied, tmp_path, rms_norm_eps=1e-5)
    devplan.load(folder, tied.map, devices=ALL_CPU)
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert any(
        "DP509 this model's configuration differs" in line and "devplan suggest" in line
        for line in said
    )


def test_another_class_is_refused(tied, tmp_path):
    folder = spoilt(tied, tmp_path, architectures=["MistralForCausalLM"])
    with pytest.raises(DeviceMapError, match="is a MistralForCausalLM, the map is for a Llama"):
        devplan.load(folder, tied.map, devices=ALL_CPU)


PLANNED, OTHER = "a" * 40, "b" * 40


@pytest.mark.parametrize("subfolder", ["", "text"])
@pytest.mark.parametrize("commit", [PLANNED, OTHER, None])
def test_the_commit_of_a_folder_in_the_cache_of_the_hub(
    tied, tmp_path, on, caplog, commit, subfolder
):
    """``snapshots/<commit>``, and folders below it; other folders are of no commit."""
    on(card(0, 1), card(1, 0.5), card(2, 1))
    caplog.set_level(logging.INFO, logger="devplan")
    top = tmp_path / "snapshots" / commit if commit else tmp_path / "model"
    shutil.copytree(tied.folder, top / subfolder)
    content = read_map(tied.map)
    of_commit = replace(content, model=replace(content.model, revision=PLANNED))
    with pytest.raises(StopIteration):
        devplan.load(top, of_commit, **({"subfolder": subfolder} if subfolder else {}))
    said = [r.getMessage() for r in caplog.records if "revision" in r.getMessage()]
    assert len(said) == (commit == OTHER)
    for line in said:
        assert f"of revision {OTHER}, the map is for {PLANNED}" in line
