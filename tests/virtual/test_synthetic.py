"""Which values are made up for integers and truths that have none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from devplan.virtual import source_lines
from devplan.virtual.synthetic import (
    NOTHING_GIVEN,
    Choice,
    Given,
    given_by,
    with_least,
)

aten = torch.ops.aten
FROM_FOUR = Given(num_choices=4)


def empty(*shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


@pytest.mark.parametrize(
    ("func", "given", "stops", "values"),
    [
        (aten.argmax.default, FROM_FOUR, (), [0, 0]),
        (aten.argmax.default, FROM_FOUR, (0,), [1, 1]),
        (aten.argmax.default, FROM_FOUR, (1, 0), [2, 2]),
        (aten.argmax.default, FROM_FOUR, (1,), [0, 0]),
        # every token ends it, or none is chosen here
        (aten.argmax.default, FROM_FOUR, (0, 1, 2, 3), [0, 0]),
        (aten.argmax.default, FROM_FOUR, (0, 1, 2), [3, 3]),
        (aten.argmax.default, NOTHING_GIVEN, (0,), [0, 0]),
        (aten.topk.default, FROM_FOUR, (), [0, 1]),
        (aten.topk.default, FROM_FOUR, (0,), [1, 2]),
        (aten.topk.default, FROM_FOUR, (1,), [2, 3]),
        (aten.topk.default, FROM_FOUR, (2,), [0, 1]),
        # two in a row have no room behind the stop token
        (aten.topk.default, FROM_FOUR, (1, 2), [0, 1]),
        (aten.sort.default, NOTHING_GIVEN, (), [0, 1]),
        (aten.add.Tensor, Given(least=3), (), [3, 3]),
        (aten.gt.Scalar, NOTHING_GIVEN, (), [0, 0]),
        (aten.all.default, NOTHING_GIVEN, (), [1, 1]),
    ],
)
def test_values(func, given, stops, values):
    choice = Choice(stop_tokens=frozenset(stops))
    assert choice.fill(empty(2), func, given).tolist() == values


def test_ranks_are_those_of_the_last_dimension_and_can_be_written_to():
    filled = Choice().fill(empty(2, 3), aten.topk.default, NOTHING_GIVEN)
    assert filled.tolist() == [[0, 1, 2]] * 2
    filled[0, 0] = 9
    assert filled[1, 0] == 0
    assert Choice().fill(empty(), aten.topk.default, NOTHING_GIVEN).tolist() == 0


def test_at_the_line_that_is_tried_the_other_way_everything_is_one(monkeypatch):
    monkeypatch.setattr(source_lines, "current_source", lambda: "model.py:7")
    truth, number, real = empty(1, dtype=torch.bool), empty(1), empty(1, dtype=torch.float32)
    for line, value in (("model.py:7", 1), ("model.py:8", 0)):
        choice = Choice(raised_at=frozenset({line}))
        assert choice.fill(empty(2), aten.eq.Scalar, NOTHING_GIVEN).tolist() == [value] * 2
        assert choice.number(truth) is bool(value)
        assert choice.number(number) == value and type(choice.number(number)) is int
        assert choice.number(real) == 1.0
    assert Choice().number(truth) is False and Choice().number(number) == 0


@pytest.mark.parametrize(
    ("file", "func", "value"),
    [
        ("transformers/generation/utils.py", aten.gt.Scalar, 1),
        ("transformers/generation/utils.py", aten.eq.Scalar, 0),
        ("transformers/models/bark/modeling_bark.py", aten.gt.Scalar, 0),
    ],
)
def test_what_generate_compares_is_true(monkeypatch, file, func, value):
    monkeypatch.setattr(source_lines, "current_source", lambda: SimpleNamespace(file=file))
    assert Choice().fill(empty(1), func, NOTHING_GIVEN).tolist() == [value]


def test_tokens_are_chosen_between_the_blocks_from_as_many_as_there_are():
    scores = empty(2, 7)
    assert given_by(aten.argmax.default, (scores,), between_blocks=True) == Given(num_choices=7)
    assert given_by(aten.topk.default, (scores, 2), between_blocks=True).num_choices == 7
    assert given_by(aten.argmax.default, (scores,), between_blocks=False) is NOTHING_GIVEN
    assert given_by(aten.argmax.default, (empty(),), between_blocks=True) is NOTHING_GIVEN
    assert given_by(aten.sort.default, (scores,), between_blocks=True) is NOTHING_GIVEN


def test_the_bound_of_clamped_numbers_goes_with_their_integers():
    for func, args, least in (
        (aten.clamp_min.default, (empty(1), 1.2), 2),
        (aten.clamp.default, (empty(1), 3), 3),
    ):
        result = with_least(func, args, empty(1))
        assert given_by(aten._to_copy.default, (result,), between_blocks=False) == Given(
            least=least
        )
    for func, args in (
        (aten.clamp_max.default, (empty(1), 3)),
        (aten.clamp.default, (empty(1),)),
        (aten.clamp.default, (empty(1), None, 5)),
        (aten.clamp_min.default, (empty(1), float("inf"))),
    ):
        result = with_least(func, args, empty(1))
        assert given_by(aten._to_copy.default, (result,), between_blocks=False) == Given()
