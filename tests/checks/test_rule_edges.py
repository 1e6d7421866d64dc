"""Where rules of structure begin and end, on a model of three layers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devplan.core.device_map import device_map_of
from devplan.core.findings import Severity
from devplan.core.types import Card, Machine, OffloadTier
from devplan.rules import (
    back_and_forth,
    embedding_off_main,
    offload_not_asked_for,
    root_entry_overruled,
    stray_parameter,
    unknown_device,
)
from tests.checks.test_remedies import EVEN, STRUCTURE, subject

L0, L1, L2 = (f"model.layers.{index}" for index in range(3))


def on_cards(entries, *budgets: int, tiers=()):
    cards = tuple(
        Card(device=f"cuda:{index}", name="a", capacity_bytes=budget, reserve_bytes=0)
        for index, budget in enumerate(budgets)
    )
    tiers = tuple(OffloadTier(device=tier, capacity_bytes=None) for tier in tiers)
    machine = Machine(cards=cards, main_device="cuda:0", tiers=tiers)
    return replace(subject(entries), machine=machine)


def layers(*devices: str):
    return {**EVEN, **dict(zip((L0, L1, L2), devices, strict=True))}


# ----------------------------------------------------------------------------- back and forth


@pytest.mark.parametrize(
    ("devices", "crossings", "needed", "changed"),
    [
        (("cuda:0", "cuda:0", "cuda:0"), None, None, None),
        (("cuda:0", "cuda:1", "cuda:1"), None, None, None),
        (("cuda:0", "cuda:1", "cuda:2"), None, None, None),
        (("cuda:0", "cuda:1", "cuda:0"), 2, 1, {L1: "cuda:0", L2: "cuda:1"}),
        (("cuda:1", "cuda:0", "cuda:1"), 2, 1, {L1: "cuda:1", L2: "cuda:0"}),
        # what is offloaded runs on the main device; first or last it has to cross anyway
        (("cuda:1", "cpu", "cuda:1"), 2, 1, {L1: "cuda:1", L2: "cuda:0"}),
        (("cpu", "cuda:1", "disk"), None, None, None),
        (("cuda:1", "cpu", "cpu"), None, None, None),
        (("cpu", "cpu", "cpu"), None, None, None),
    ],
)
def test_layers_that_return_to_a_card(devices, crossings, needed, changed):
    found = list(back_and_forth.check(subject(layers(*devices))))
    assert len(found) == (crossings is not None)
    for each in found:
        assert each.message == (
            f"the layers of model.layers cross between GPUs {crossings} times of 2 B per token; "
            f"{needed} would do"
        )
        assert each.severity is Severity.WARNING and each.fix.changed_entries == changed
        assert each.module == next(iter(changed)) == each.entry.key


def test_a_layer_that_is_split_is_no_station():
    entries = {**layers("cuda:0", "cuda:1", "cuda:0"), f"{L1}.mlp": "cuda:0"}
    assert not list(back_and_forth.check(subject(entries)))
    nothing = replace(
        STRUCTURE,
        graph=replace(
            STRUCTURE.graph,
            blocks=tuple(replace(b, input_bytes_per_token=0) for b in STRUCTURE.graph.blocks),
        ),
    )
    (found,) = back_and_forth.check(
        replace(subject(layers("cuda:0", "cuda:1", "cuda:0")), structure=nothing)
    )
    assert "2 times; 1 would do" in found.message


def test_a_repair_that_does_not_fit_is_no_repair():
    """The second layer is to come to the first card, which is full."""
    entries = {**layers("cuda:0", "cuda:1", "cuda:0"), f"{L2}.mlp": "cuda:0"}
    (found,) = back_and_forth.check(on_cards(entries, 10**6, 10**6))
    assert found.severity is Severity.WARNING and found.fix.changed_entries
    (found,) = back_and_forth.check(on_cards(entries, 1, 10**6))
    assert found.severity is Severity.NOTE and not found.fix.changed_entries
    assert "does not fit" in found.fix.text and found.module == L1


# ------------------------------------------------------------------------------ bare tensors


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        (EVEN, []),
        # a layer that has no entry of its own, only its parts have
        (
            {f"{L1}.attn": "cuda:0", f"{L1}.mlp": "cuda:0", f"{L1}.scale": "cuda:1"},
            [(f"{L1}.scale", "cuda:1")],
        ),
        ({f"{L1}.attn": "cuda:0", f"{L1}.mlp": "cuda:1", f"{L1}.scale": "cuda:0"}, []),
        ({f"{L1}.attn": "cuda:1", f"{L1}.mlp": "cuda:1", f"{L1}.scale": "cuda:1"}, []),
        ({f"{L1}.attn": "cuda:0", f"{L1}.mlp": "cuda:1"}, []),
        ({L1: "cuda:0", f"{L1}.scale": "cuda:1"}, []),
    ],
)
def test_bare_tensors_that_no_hook_moves(entries, found):
    told = list(stray_parameter.check(subject(entries)))
    assert [(each.module, each.entry.device) for each in told] == found
    for each in told:
        assert each.fix.changed_entries == {each.module: "cuda:0"}
        assert f"the code of {L1} (Layer) that uses it runs at cuda:0" in each.message


# --------------------------------------------------------------------------- the whole model


@pytest.mark.parametrize(
    ("entries", "changed"),
    [
        ({"": "cuda:1", "head": "cuda:0"}, {"model": "cuda:1"}),
        ({"": "cuda:1", "model.norm": "cuda:0"}, {"model": "cuda:1", "head": "cuda:1"}),
        # "model" has an entry, but the head has none
        ({"": "cuda:1", "model": "cuda:0"}, {"head": "cuda:1"}),
        # one device, the main one, offloaded, or nothing left for it
        ({"": "cuda:1"}, None),
        ({"": "cuda:0", "head": "cuda:1"}, None),
        ({"": "cpu", "head": "cuda:0"}, None),
        ({"": "cuda:1", "model": "cuda:0", "head": "cuda:0"}, None),
        ({"model": "cuda:1", "head": "cuda:0"}, None),
    ],
)
def test_an_entry_for_the_whole_model_elsewhere(entries, changed):
    told = list(root_entry_overruled.check(subject(entries)))
    assert [each.fix.changed_entries for each in told] == ([] if changed is None else [changed])
    for each in told:
        assert each.fix.dropped_entries == ("",) and each.entry.key == ""
        assert "main device cuda:0" in each.message


# ----------------------------------------------------------------------------------- devices


@pytest.mark.parametrize(
    ("written", "severity", "changed"),
    [
        ("cuda:1", None, None),
        (1, None, None),
        ("cpu", None, None),
        ("cuda", Severity.WARNING, {"head": "cuda:0"}),
        ("gpu0", Severity.ERROR, {}),
        (None, Severity.ERROR, {}),
    ],
)
def test_devices_that_cannot_be_relied_on(written, severity, changed):
    about = replace(subject(EVEN), map=device_map_of({"model": 0, "head": written}))
    told = list(unknown_device.check(about))
    assert [each.severity for each in told] == ([] if severity is None else [severity])
    for each in told:
        assert each.module == "head" and each.fix.changed_entries == changed
        assert "the device of 'head' cannot be relied on: " in each.message


# ----------------------------------------------------------------------------------- offload


@pytest.mark.parametrize(
    ("entries", "tiers", "found"),
    [
        (EVEN, None, []),
        ({**EVEN, L1: "cpu"}, None, [("cpu", [L1])]),
        ({**EVEN, L1: "cpu", "head": "cpu", L2: "disk"}, None, [("cpu", [L1]), ("disk", [L2])]),
        ({**EVEN, L1: "cpu", L2: "disk"}, ("cpu",), [("disk", [L2])]),
        ({**EVEN, L1: "cpu", L2: "disk"}, ("cpu", "disk"), []),
        ({**EVEN, L1: "cpu"}, (), [("cpu", [L1])]),
        ({"": "cpu"}, None, []),  # a model on the CPU is no mistake
        ({"model": "cpu", "head": "disk"}, None, []),
    ],
)
def test_offload_that_nobody_asked_for(entries, tiers, found):
    about = subject(entries) if tiers is None else on_cards(entries, 10**6, 10**6, tiers=tiers)
    told = list(offload_not_asked_for.check(about))
    assert [each.module for each in told] == [keys[0] for _, keys in found]
    for each, (device, _) in zip(told, found, strict=True):
        keys = [key for key, placed in entries.items() if placed == device]
        assert each.count == len(keys) and each.entry.device == device
        size = sum(
            tensor.num_bytes
            for name, tensor in STRUCTURE.tensors.items()
            if about.device_of(name) == device and tensor.is_parameter
        )
        assert f" on {device}: " in each.message and size > 0


# --------------------------------------------------------------------------------- embedding


def test_an_embedding_off_the_main_device_goes_there_with_what_it_is_tied_to():
    away = {**EVEN, "model.embed": "cuda:1"}
    (found,) = embedding_off_main.check(subject(away))
    assert found.severity is Severity.WARNING
    assert found.fix.changed_entries == {"model.embed": "cuda:0"}
    assert found.message == (
        "the input embedding model.embed is on cuda:1, the inputs enter at cuda:0"
    )
    graph = replace(STRUCTURE.graph, tied=(("model.norm", "head"), ("head", "model.embed")))
    tied = replace(subject(away), structure=replace(STRUCTURE, graph=graph))
    (found,) = embedding_off_main.check(tied)
    assert found.fix.changed_entries == {"head": "cuda:0", "model.embed": "cuda:0"}
    (found,) = embedding_off_main.check(on_cards(away, 1, 10**6))
    assert found.severity is Severity.NOTE and not found.fix.changed_entries
    assert found.fix.text == "cuda:0 has no room for it beside what is there"
    assert not list(embedding_off_main.check(subject(EVEN)))
