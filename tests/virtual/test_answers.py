"""What model code hears about devices, and where moved, made and attended tensors lie."""

from __future__ import annotations

import pytest
import torch

from devplan.sandbox.holding import exclusive
from devplan.virtual.dispatch_mode import Execution
from devplan.virtual.function_mode import Answers, as_device, target_device
from devplan.virtual.labels import label_of, maker_of, mark

CPU, ONE, TWO = torch.device("cpu"), torch.device("cuda:0"), torch.device("cuda:1")
META = torch.device("meta")


class Noting(Execution):
    """Notes the tensors that are made and copied."""

    def __init__(self) -> None:
        super().__init__()
        self.made_here: list[torch.Tensor] = []
        self.asked: list[torch.Tensor] = []

    def made(self, tensor: torch.Tensor) -> None:
        self.made_here.append(tensor)

    def asked_on_meta(self, tensor: torch.Tensor) -> None:
        self.asked.append(tensor)


@pytest.fixture
def execution():
    running = Noting()
    with Answers(running), running:
        yield running


def on(device, *shape: int, dtype=torch.float32) -> torch.Tensor:
    return mark(torch.empty(shape or (2, 3), dtype=dtype, device="meta"), device, "a")


def test_a_tensor_says_where_it_is(execution):
    here, there, home = on(ONE), on(TWO), on(CPU)
    assert (here.device, there.device, home.device) == (ONE, TWO, CPU)
    assert (here.is_cuda, home.is_cuda, here.is_cpu, home.is_cpu) == (True, False, False, True)
    assert (here.get_device(), there.get_device(), home.get_device()) == (0, 1, -1)
    assert not here.is_meta and on(META).is_meta
    plain = torch.ones(2)
    assert (plain.device, plain.is_cpu, plain.get_device()) == (CPU, True, -1)
    assert here.data_ptr() != 0 and here.data_ptr() != there.data_ptr()


def test_who_asks_a_weight_on_meta_is_noted(execution):
    weight, other = on(META), on(ONE)
    assert weight.device == META and other.device == ONE
    assert [id(each) for each in execution.asked] == [id(weight)]


def test_a_parameter_without_a_label_is_at_home():
    running = Noting()
    with Answers(running, TWO), running:
        weight = torch.nn.Parameter(torch.ones(2))
        assert (weight.device, weight.get_device(), weight.is_cuda) == (TWO, 1, True)
        assert torch.ones(2).device == CPU
        assert weight.new_tensor([1.0]).device == TWO


@pytest.mark.parametrize(
    ("move", "device", "dtype"),
    [
        (lambda x: x.to("cuda:1"), TWO, torch.float32),
        (lambda x: x.to(1, torch.float16), TWO, torch.float16),
        (lambda x: x.to(torch.float16), ONE, torch.float16),
        (lambda x: x.to(device=TWO, dtype=torch.float64), TWO, torch.float64),
        (lambda x: x.to(on(TWO, dtype=torch.float16)), TWO, torch.float16),
        (lambda x: x.to(torch.ones(1, dtype=torch.float64)), CPU, torch.float64),
        (lambda x: x.to("cuda:1", non_blocking=True), TWO, torch.float32),
        (lambda x: x.to("cuda:1", torch.float16, False, True), TWO, torch.float16),
        (lambda x: x.cpu(), CPU, torch.float32),
        (lambda x: x.cuda(), ONE, torch.float32),
        (lambda x: x.cuda(1), TWO, torch.float32),
        (lambda x: x.cuda(device="cuda:1"), TWO, torch.float32),
        (lambda x: x.type_as(on(TWO, dtype=torch.float16)), TWO, torch.float16),
        (lambda x: x.type_as(torch.ones(1)), CPU, torch.float32),
    ],
)
def test_moves(execution, move, device, dtype):
    source = on(ONE)
    moved = move(source)
    assert (moved.device, moved.dtype, moved.shape) == (device, dtype, source.shape)
    assert source.device == ONE


def test_a_tensor_that_is_there_already_is_itself(execution):
    source = on(ONE)
    assert source.to(ONE) is source and source.cuda() is source and source.to(source) is source
    copy = source.to(TWO)
    assert copy is not source and maker_of(copy) == "a"
    assert execution.made_here[-1] is copy


@pytest.mark.parametrize(
    ("factory", "device"),
    [
        (lambda: torch.zeros(2, device="cuda:1"), TWO),
        (lambda: torch.arange(3, device=1), TWO),
        (lambda: torch.tensor([1, 2], device="cuda"), ONE),
        (lambda: torch.tensor([torch.tensor(1), (2, torch.tensor(3))][:1], device=TWO), TWO),
        (lambda: torch.ones(2, pin_memory=True, device="cpu"), CPU),
        (lambda: torch.zeros(2), CPU),
        (lambda: on(TWO).new_tensor([1.0]), TWO),
        (lambda: on(TWO).new_tensor([1.0], device="cuda:0"), ONE),
        (lambda: torch.zeros_like(on(TWO)), TWO),
        (lambda: on(ONE).new_zeros(2, device=TWO), TWO),
    ],
)
def test_factories(execution, factory, device):
    made = factory()
    assert made.device == device
    assert any(each is made for each in execution.made_here) or device == CPU


def test_devices_as_numbers_and_words():
    assert as_device(1) == TWO and as_device("cuda") == ONE and as_device(TWO) == TWO
    assert as_device("cpu") == CPU and as_device("cuda:1") == TWO
    to = torch.Tensor.to
    assert target_device(to, [None, torch.float16, True], {}) == (None, [torch.float16], {})
    assert target_device(to, [], {"device": 1, "copy": True}) == (1, [], {"copy": True})
    assert target_device(torch.Tensor.cuda, [], {"device": 0}) == (0, [], {})


@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_lies_with_its_query_and_counts_as_one_result(execution, is_causal):
    query, key = on(TWO, 1, 4, 5, 8), on(TWO, 1, 4, 7, 8)
    attended = torch.nn.functional.scaled_dot_product_attention(
        query, key, on(TWO, 1, 4, 7, 6), is_causal=is_causal
    )
    assert (attended.shape, attended.device) == ((1, 4, 5, 6), TWO)
    assert attended.stride() == (4 * 5 * 6, 6, 4 * 6, 1)


def test_gradients_of_a_copy_are_copied_back():
    running = Noting()
    with exclusive(), Answers(running), running:
        weight = torch.nn.Parameter(on(ONE, 2))
        mark(weight, ONE, None)
        (weight.to(TWO) * 2).sum().backward()
        assert weight.grad.shape == (2,) and weight.grad.device == ONE
        query = mark(torch.nn.Parameter(on(TWO, 1, 2, 3, 8)), TWO, None)
        value = on(TWO, 1, 2, 3, 4)
        torch.nn.functional.scaled_dot_product_attention(query, query, value).sum().backward()
        assert query.grad.shape == query.shape
    assert label_of(weight) == ONE


def test_made_up_selections_are_as_large_as_they_can_be(execution):
    values = on(ONE, 2, 3)
    positions = values.nonzero()
    assert (positions.shape, positions.dtype, positions.device) == ((6, 2), torch.int64, ONE)
    selected = torch.masked_select(values, values > 0)
    assert (selected.shape, selected.device) == ((6,), ONE)
    assert {"aten.nonzero.default", "aten.masked_select.default"} <= execution.made_up


def test_ops_are_counted_and_what_they_make_is_labelled(execution):
    execution.block = "b"
    before = execution.num_ops
    result = on(TWO) + 1
    assert execution.num_ops > before
    assert (result.device, maker_of(result)) == (TWO, "b")
    whole, rest = on(ONE, 4, 2).split(2)
    assert whole.device == rest.device == ONE
