"""CUDA_VISIBLE_DEVICES as it is read here, beside torch's own reading of it."""

from __future__ import annotations

import os
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devplan.core.findings import Severity
from devplan.rules.cards_hidden import VARIABLE, read_visibility
from devplan.rules.environment import obstacles
from tests.environment.machines import card, machine

ITEMS = st.sampled_from(
    ["0", "1", "2", "10", "+1", "-1", "", "x", "1x", " 2 ", "GPU-a", "GPU-b", "MIG-c"]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(ITEMS, max_size=5).map(",".join))
def test_it_is_read_as_torch_reads_it(text):
    torch = pytest.importorskip("torch")
    parse = getattr(torch.cuda, "_parse_visible_devices", None)
    if parse is None:
        pytest.skip("this torch does not parse the variable itself")
    with mock.patch.dict(os.environ, {VARIABLE: text}):
        by_torch = parse()
    assert list(read_visibility(text).items) == [str(item) for item in by_torch]


@pytest.mark.parametrize(
    "text, items, problem",
    [
        ("0,1", ("0", "1"), ""),
        ("2,3", ("2", "3"), ""),
        ("", (), "is empty"),
        (",", (), "is empty"),
        ("0,0", (), "names GPU 0 twice"),
        ("0,-1,1", ("0",), "holds -1, which names no GPU and hides what follows ('1')"),
        ("GPU-8932f937,GPU-1", ("GPU-8932f937", "GPU-1"), ""),
        ("GPU-1,GPU-1", (), "names GPU GPU-1 twice"),
        ("GPU-1,0", ("GPU-1",), "holds 0, which names no GPU"),
        ("0,7,1", ("0",), "holds 7, which names no GPU and hides what follows ('1')"),
    ],
)
def test_what_remains_and_what_is_odd(text, items, problem):
    seen = read_visibility(text, 4)
    assert seen.items == items
    assert problem in seen.problem
    assert bool(seen.problem) == bool(problem)


def messages(environment):
    return [(d.code, d.severity, d.message) for d in obstacles(environment)]


def test_unset_and_plain_values_say_nothing():
    two = card(0, 24), card(1, 12)
    assert messages(machine(*two)) == []
    assert messages(machine(*two, variables={VARIABLE: "0,1"})) == []


def test_other_numbers_are_explained():
    cards = card(0, 24, uuid="GPU-2", driver_index=2), card(1, 12, uuid="GPU-3", driver_index=3)
    everything = tuple(machine(*(card(i, 24) for i in range(4))).driver_cards)
    found = messages(machine(*cards, driver_cards=everything, variables={VARIABLE: "2,3"}))
    assert found == [
        ("DP511", Severity.NOTE, "CUDA_VISIBLE_DEVICES=2,3 hides 2 of the 4 GPUs of this machine"),
        (
            "DP511",
            Severity.NOTE,
            "CUDA_VISIBLE_DEVICES=2,3: in a map cuda:0 is 2, cuda:1 is 3",
        ),
    ]


def test_empty_and_repeated_values_are_warnings():
    for text in ("", "0,0"):
        (found,) = messages(machine(variables={VARIABLE: text}))
        assert found[:2] == ("DP511", Severity.WARNING)


def test_the_order_of_cuda_and_of_the_driver():
    cards = card(0, 24, driver_index=1), card(1, 12, driver_index=0)
    ((code, severity, message),) = messages(machine(*cards))
    assert (code, severity) == ("DP511", Severity.NOTE)
    assert message.startswith("cuda:0 is GPU 1 of nvidia-smi, cuda:1 is GPU 0 of nvidia-smi")
    by_bus = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert messages(machine(*cards, variables=by_bus)) == []
