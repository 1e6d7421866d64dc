"""What is patched for a run, part by part, and that it is put back."""

from __future__ import annotations

import gc
import logging
import os
import warnings
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from devplan.sandbox.holding import exclusive
from devplan.virtual.labels import label_of, mark
from devplan.virtual.patches import (
    Loan,
    ModelSnapshot,
    VirtualCard,
    _as_labelled,
    _grouped,
    answering,
    cards_by_number,
    forget_results,
    lean,
    quiet,
    restored,
)

ONE, TWO = torch.device("cuda:0"), torch.device("cuda:1")


def on(device, dtype=torch.float32) -> torch.Tensor:
    return mark(torch.empty(2, dtype=dtype, device="meta"), device, None)


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.register_buffer("table", torch.zeros(2))
        self.number = 1


def test_a_snapshot_puts_every_module_back():
    model = Holder()
    weight = model.inner.weight
    taken = ModelSnapshot(model)
    model.number, model.inner.more = 2, 3
    model.inner.weight = nn.Parameter(torch.ones(2, 2))
    model.register_buffer("other", torch.ones(1))
    mark(model.table, ONE, None)
    taken.restore()
    assert model.number == 1 and not hasattr(model.inner, "more")
    assert model.inner.weight is weight and not hasattr(model, "other")
    assert label_of(model.table) == ONE  # taken in the middle of a run: labels stay


def test_what_is_lent_comes_back_without_labels():
    model = Holder()
    with exclusive(), restored(model):
        mark(model.table, ONE, None)
        mark(model.inner.weight, TWO, "a")
        model.number = 5
        del model.table
    assert model.number == 1 and label_of(model.table) is None
    assert label_of(model.inner.weight) is None


def test_modules_that_are_made_inside_are_not_kept_and_others_are_when_they_change():
    outside = Holder()
    with exclusive(), Loan() as loan:
        inside = Holder()
        inside.number = 7
        assert not loan.kept
        outside.number = 7
        outside.number = 8
        assert set(loan.kept) == {outside}
    assert (inside.number, outside.number) == (7, 1)


class Remembering(nn.Module):
    @staticmethod
    @cache
    def anchors(size: int) -> int:
        return size

    @classmethod
    @cache
    def of_class(cls, size: int) -> int:
        return size

    def in_a_cell(self):
        return beside()


@cache
def beside() -> int:
    return 1


def test_results_are_forgotten_of_classes_and_of_what_stands_beside_them():
    Remembering.anchors(1), Remembering.of_class(1), beside()
    assert beside.cache_info().currsize == 1
    forget_results([Remembering])
    assert Remembering.anchors.cache_info().currsize == 0
    assert beside.cache_info().currsize == 0
    assert vars(Remembering)["of_class"].__func__.cache_info().currsize == 0


def test_optimizers_group_tensors_by_their_labels():
    first, second, third = on(ONE), on(TWO), on(ONE)
    half, plain = on(ONE, torch.float16), torch.ones(1)
    lists = [[first, second, third, half, plain], [1, 2, 3, 4, 5], []]
    assert _grouped(lists) == {
        (ONE, torch.float32): ([[first, third], [1, 3], []], []),
        (TWO, torch.float32): ([[second], [2], []], []),
        (ONE, torch.float16): ([[half], [4], []], []),
        (torch.device("cpu"), torch.float32): ([[plain], [5], []], []),
    }
    assert [indices for _, indices in _grouped(lists, True).values()] == [[0, 2], [1], [3], [4]]


def test_checkpointing_compares_labels():
    assert _as_labelled(on(TWO)) == {"shape": (2,), "dtype": torch.float32, "device": TWO}
    assert _as_labelled(torch.ones(1))["device"] == torch.device("cpu")


def test_a_number_is_a_card_in_the_code_of_one_module():
    module = SimpleNamespace(torch=torch)
    with cards_by_number(module):
        assert module.torch.device(1) == TWO
        assert module.torch.device("cuda", 1) == TWO
        assert module.torch.device("cpu") == torch.device("cpu")
        assert isinstance(torch.device("cpu"), module.torch.device)
        assert not isinstance("cpu", module.torch.device)
        assert module.torch.float32 is torch.float32
    assert module.torch is torch


def test_nobody_is_warned_and_the_process_is_as_before(monkeypatch):
    # [dynamo] torch turns this off for the whole process when anything is compiled.
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)
    before = dict(os.environ), logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quiet():
            warnings.warn("nobody can act on it", stacklevel=1)
            assert not logging.getLogger("x").isEnabledFor(logging.WARNING)
            assert logging.getLogger("x").isEnabledFor(logging.ERROR)
            os.environ["DEVPLAN_TEST"] = "set inside"
            torch.distributions.Normal(torch.zeros(1), -torch.ones(1))
    assert (dict(os.environ), logging.root.manager.disable) == before
    with pytest.raises(ValueError):
        torch.distributions.Normal(torch.zeros(1), -torch.ones(1))


@pytest.mark.parametrize(
    ("model", "is_lean"),
    [
        (nn.Linear(1, 1, device="meta"), True),
        (nn.Identity(), True),
        (nn.Linear(1, 1), False),
    ],
)
def test_one_thread_where_nothing_is_computed(model, is_lean):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with lean(model):
            assert torch.get_num_threads() == (1 if is_lean else 2)
            assert gc.get_freeze_count() > 0
        assert torch.get_num_threads() == 2
        assert gc.get_freeze_count() == 0
    finally:
        torch.set_num_threads(before)


def test_a_card_says_what_it_is():
    small, large = VirtualCard(), VirtualCard(name="b", capability=(9, 1), total_bytes=7)
    with exclusive(), answering((small, large)):
        found = torch.cuda.get_device_properties(1)
        assert (found.name, found.major, found.minor, found.total_memory) == ("b", 9, 1, 7)
        assert torch.cuda.get_device_properties().name == "virtual GPU"
        assert torch.cuda.get_device_capability("cuda:1") == (9, 1)
        assert torch.cuda.get_device_capability() == (8, 0)
        assert torch.cuda.mem_get_info(TWO) == (7, 7)
        assert torch.cuda.mem_get_info("cuda")[0] == 80 * 2**30
        assert (torch.cuda.device_count(), torch.cuda.current_device()) == (2, 0)
        assert torch.cuda.is_available() and torch.cuda.is_initialized()
