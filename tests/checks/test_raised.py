"""Calls that raised are made again before the map is blamed: with other values, on one GPU."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
from torch import nn

from devplan.checker.run_options import IN_WORDS
from devplan.checker.running import Done, ask_one_gpu, other_way, raised, refusal
from devplan.core.findings import (
    DISPATCH,
    MadeUpValue,
    MismatchEvent,
    ModelError,
    RunRecord,
    SourceLine,
)
from devplan.virtual.limited import TooManyOps

ERROR = ModelError(type="ValueError", message="no", source=None, phase="prefill")
APART = MismatchEvent(
    op="aten.add.Tensor",
    message="apart",
    rule="same",
    module="m",
    source=None,
    operands=(),
    phase="prefill",
)
FINE = RunRecord(name="again", phases=("prefill",), inputs="text", notes=("as it was",))
RAISED = replace(FINE, name="generate", error=ERROR)
WAY = next(iter(IN_WORDS))


def line(number: int) -> SourceLine:
    return SourceLine(file="a.py", line=number, function="f", text="")


def made_up(*numbers: int | None) -> tuple[MadeUpValue, ...]:
    return tuple(
        MadeUpValue(op="aten.item", source=None if number is None else line(number))
        for number in numbers
    )


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"error": None}, False),
        ({"error": replace(ERROR, phase=DISPATCH)}, False),  # no code of the model ran
        ({"mismatches": (APART,)}, False),
    ],
)
def test_which_calls_are_made_again(changed, expected):
    assert raised(replace(RAISED, **changed)) is expected


# --------------------------------------------------------------------------------- other values


def tried(record: RunRecord, answers: dict[str, object]):
    """The run that is taken, and the lines at which another value was tried."""
    lines = []

    def again(placed, raised_at):
        assert placed == "placed"
        (only,) = raised_at
        lines.append(only)
        answer = answers.get(only, RAISED)
        if isinstance(answer, Exception):
            raise answer
        return answer

    done = Done(record=record, call=None, again=again)
    return other_way("placed", done), lines


def test_the_last_lines_are_tried_first_each_once_and_six_at_most():
    record = replace(RAISED, made_up=made_up(1, 2, None, 3, 2, 4, 5, 6, 7, 8))
    assert tried(record, {}) == (None, [f"a.py:{n}" for n in (8, 7, 6, 5, 4, 2)])
    assert tried(replace(RAISED, made_up=made_up(None)), {}) == (None, [])


@pytest.mark.parametrize(
    ("answer", "is_taken"),
    [
        (FINE, True),
        (replace(FINE, mismatches=(APART,), error=ERROR), True),
        (RAISED, False),
        (TooManyOps(None), False),
    ],
)
def test_a_run_that_goes_on_with_another_value_is_taken(answer, is_taken):
    record = replace(RAISED, made_up=made_up(1, 2, 3))
    found, lines = tried(record, {"a.py:2": answer, "a.py:1": FINE})
    line_of = "a.py:2" if is_taken else "a.py:1"
    assert lines == ["a.py:3", "a.py:2", "a.py:1"][: 2 if is_taken else 3]
    assert found.name == "generate"
    assert found.notes == (
        "as it was",
        f"with the usual value made up at {line_of} the code raises; another was taken",
    )


# -------------------------------------------------------------------------------------- one GPU


@dataclass(frozen=True)
class Split:
    device_map: dict
    main_device: str = "cuda:1"


@pytest.fixture
def one_gpu(monkeypatch):
    """The device maps on which calls were made again."""
    maps = []

    @contextmanager
    def dispatched(split):
        maps.append(split.device_map)
        yield "whole"

    monkeypatch.setattr("devplan.checker.running.dispatched", dispatched)
    return maps


def done(record: RunRecord, answer, way: str = "") -> Done:
    def again(placed):
        assert placed == "whole"
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Done(record=record, call=None, again=again, way=way)


SPLIT = Split({"a": "cuda:0", "b": "cuda:1"})
OTHER = replace(RAISED, error=replace(ERROR, type="TypeError"))


@pytest.mark.parametrize(
    ("answer", "whole"),
    [(RAISED, True), (OTHER, False), (FINE, False), (TooManyOps(None), False)],
)
@pytest.mark.parametrize("way", ["", WAY])
@pytest.mark.parametrize("met", [False, True])
def test_what_raises_on_one_gpu_too_is_no_fault_of_the_map(one_gpu, answer, whole, way, met):
    record = replace(RAISED, mismatches=(APART,) if met else ())
    each, fine = done(record, answer, way), done(FINE, RAISED)
    kept, refused = ask_one_gpu(SPLIT, [fine, each])
    assert one_gpu == [{"": "cuda:1"}]
    assert each.record.error.raised_whole is whole and fine.record is FINE
    # A short call that the class does not take is no call of it.
    is_refused = whole and bool(way) and not met
    assert refused == ([each] if is_refused else [])
    assert kept == ([fine] if is_refused else [fine, each])


def test_nothing_is_run_again_where_nothing_raised(one_gpu):
    all_fine = [done(FINE, RAISED), done(replace(RAISED, error=None), RAISED)]
    at_dispatch = done(replace(RAISED, error=replace(ERROR, phase=DISPATCH)), RAISED)
    assert ask_one_gpu(SPLIT, [*all_fine, at_dispatch]) == ([*all_fine, at_dispatch], [])
    assert one_gpu == []


def test_a_call_that_the_class_does_not_take_is_said_with_its_reason():
    missed = refusal(nn.Linear(1, 1), done(RAISED, FINE, WAY))
    assert (missed.name, missed.reason) == (IN_WORDS[WAY], "Linear raises ValueError: no")
    assert missed.is_refused
