"""What is known although the floats are not, and what model code hears about it."""

from __future__ import annotations

import pytest
import torch

from devplan.sandbox.holding import exclusive
from devplan.virtual.dispatch_mode import Execution
from devplan.virtual.function_mode import Answers
from devplan.virtual.labels import label_of, maker_of, mark
from devplan.virtual.patches import VirtualCard, answering

CARD = torch.device("cuda", 1)


@pytest.fixture
def execution():
    running = Execution()
    with Answers(running), running:
        yield running


def abstract(*shape: int) -> torch.Tensor:
    return mark(torch.empty(*shape, device="meta"), CARD, None)


@pytest.mark.parametrize(
    ("fill", "value"),
    [
        (lambda x: torch.ones_like(x, dtype=torch.int64), [[1, 1], [1, 1]]),
        (lambda x: torch.full_like(x, 7, dtype=torch.int32), [[7, 7], [7, 7]]),
        (lambda x: x.new_zeros(2, dtype=torch.bool), [False, False]),
        (lambda x: x.new_full((1,), 3, dtype=torch.int64), [3]),
        (lambda x: torch.ones_like(x[0], dtype=torch.int64).cumsum(0) - 1, [0, 1]),
    ],
)
def test_integers_that_only_take_a_shape_are_known(execution, fill, value):
    filled = fill(abstract(2, 2))
    assert filled.tolist() == value
    assert filled.device == CARD
    assert not execution.made_up


@pytest.mark.parametrize(
    ("clamped", "least"),
    [
        (lambda x: torch.clamp_min(x.sum(-1), 1), 1),
        (lambda x: x[0].clamp(min=2.5), 3),
        (lambda x: x[0].clamp(0, 9), 0),
        (lambda x: x[0].clamp(min=float("-inf")), 0),
    ],
)
def test_a_length_is_no_smaller_than_it_was_clamped_to(execution, clamped, least):
    """VITS: `clamp_min(sum(duration), 1).long()` frames; a convolution takes no sound of none."""
    lengths = clamped(abstract(2, 2)).long()
    assert lengths.tolist() == [least, least]
    assert torch.arange(lengths.max()).shape == (least,)
    assert execution.made_up


def test_large_integers_stay_abstract(execution):
    assert torch.ones_like(abstract(2000, 2000), dtype=torch.int64).untyped_storage()._cdata
    assert not execution.made_up


@pytest.mark.parametrize(
    "change",
    [
        lambda counts, x: counts.add_(x[0].long()),
        lambda counts, x: counts.copy_(x[0]),
        lambda counts, x: counts.index_add_(0, torch.tensor([0, 1]), x[0].long()),
        lambda counts, x: counts.masked_fill_(x[0] > 0, 3),
    ],
)
def test_integers_that_are_changed_in_place_stay_the_same_tensor(execution, change):
    counts = mark(torch.zeros(2, dtype=torch.int64), CARD, None)
    execution.block = "layers.3"
    assert change(counts, abstract(2, 2)) is counts
    assert counts.device == CARD and counts.shape == (2,)
    assert maker_of(counts) == "layers.3"  # who wrote it last
    assert execution.made_up


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_take_along_dim_of_abstract_floats(execution, dim):
    indices = torch.zeros(2, 3, dtype=torch.int64)
    assert torch.take_along_dim(abstract(2, 3), indices, dim=dim).shape == (2, 3)


def test_take_along_dim_is_what_it_is():
    values = torch.arange(24.0).reshape(2, 3, 4)
    for dim, shape in ((1, (2, 2, 1)), (2, (1, 3, 2)), (-3, (1, 3, 4))):
        indices = torch.zeros(shape, dtype=torch.int64)
        expected = torch.take_along_dim(values, indices, dim=dim)
        running = Execution()
        with Answers(running), running:
            assert torch.equal(torch.take_along_dim(values, indices, dim=dim), expected)


def test_what_is_made_on_meta_lies_there(execution):
    made = torch.tensor([1.0, 2.0], device="meta")
    assert label_of(made) == torch.device("meta") == (made[None] * 2).device


def test_compiled_code_runs_as_written():
    def double(x):
        return 2 * x

    with exclusive(), answering((VirtualCard(),)):
        assert torch.compile(double) is double
        assert torch.compile(mode="reduce-overhead")(double) is double


def on_cpu(*shape: int) -> torch.Tensor:
    return mark(torch.empty(*shape, device="meta"), torch.device("cpu"), None)


def test_values_as_lists_and_arrays_are_made_up(execution):
    import numpy

    assert abstract(2, 1).tolist() == [[1.0], [1.0]]
    assert on_cpu(2).numpy().tolist() == numpy.asarray(on_cpu(2)).tolist() == [1.0, 1.0]
    assert numpy.asarray(on_cpu(2), dtype=numpy.float64).dtype == numpy.float64
    assert torch.tensor([3, 5]).numpy().tolist() == [3, 5]
    assert execution.made_up == {"Tensor.tolist", "Tensor.numpy", "Tensor.__array__"}


def test_numpy_refuses_what_lies_on_a_card(execution):
    for tensor in (abstract(2), mark(torch.tensor([3, 5]), CARD, None)):
        with pytest.raises(TypeError, match="can't convert cuda:1 device type tensor to numpy"):
            tensor.numpy()
        assert len(tensor.cpu().numpy()) == 2


def test_a_check_of_all_holds_however_it_is_written(execution):
    """Code asks it before it raises."""
    values = abstract(2, 2)
    assert (values >= 0).all() and torch.all(values < 0) and not (values < 0).any()
    assert torch.all(values < 0, dim=0).tolist() == [True, True]
    assert (values < 0).all(-1, keepdim=True).tolist() == [[True], [True]]
    assert not torch.all(torch.tensor([True, False]))
