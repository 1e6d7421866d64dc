"""Bytes that live on each device, what a block needs beside weights and cache, and operands."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from devplan.virtual.calls import parts_stop_after
from devplan.virtual.folding import are_as_before, lists_among, may_stand
from devplan.virtual.labels import mark
from devplan.virtual.memory import (
    BETWEEN,
    ActivationMeter,
    MemoryMeter,
    beyond,
    device_peaks,
    given_bytes,
    rounded,
)
from devplan.virtual.operands import (
    all_on_meta,
    attended,
    grows,
    is_large,
    may_grow,
    on_meta,
    selected_positions,
    taken_along,
    tensor_operands,
)

aten = torch.ops.aten
ONE, TWO, META = torch.device("cuda:0"), torch.device("cuda:1"), torch.device("meta")
HERE, THERE = ("a", "prefill"), ("b", "decode 1")


def on_meta_of(num_bytes: int) -> torch.Tensor:
    return torch.empty(num_bytes, dtype=torch.uint8, device="meta")


# -------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("asked", "taken"), [(0, 0), (1, 512), (511, 512), (512, 512), (513, 1024), (5000, 5120)]
)
def test_the_allocator_takes_multiples(asked, taken):
    assert rounded(asked) == taken


def test_a_storage_counts_until_its_last_tensor_dies():
    meter = MemoryMeter()
    first = on_meta_of(600)
    meter.count(first, ONE, HERE)
    view = first[:10]
    meter.count(view, ONE, THERE)  # the same storage
    second = on_meta_of(100)
    meter.count(second, TWO, THERE)
    assert meter.now() == {ONE: 1024, TWO: 512}
    del first
    assert meter.now()[ONE] == 1024
    del view
    assert meter.now() == {ONE: 0, TWO: 512}
    assert (meter.devices[ONE].peak_bytes, meter.devices[ONE].peak_place) == (1024, HERE)
    meter.restart()
    del second
    assert meter.now() == {}


def test_the_first_of_equal_moments_is_the_fullest():
    meter = MemoryMeter()
    meter.add_phantom(ONE, 1000, HERE)
    meter.touch(ONE, 500, HERE)
    meter.touch(ONE, 500, THERE)
    assert meter.now() == {ONE: 1000}
    assert (meter.devices[ONE].peak_bytes, meter.devices[ONE].peak_place) == (1500, HERE)
    meter.touch(ONE, 501, THERE)
    assert (meter.devices[ONE].peak_bytes, meter.devices[ONE].peak_place) == (1501, THERE)


def test_peaks_can_be_watched_for_a_while():
    meter = MemoryMeter()
    meter.add_phantom(ONE, 1000, HERE)
    meter.touch(ONE, 500, HERE)
    watch = meter.start_peaks()
    meter.touch(ONE, 200, THERE)
    meter.touch(TWO, 7, THERE)
    assert meter.end_peaks(watch) == {ONE: 1200, TWO: 7}
    assert (meter.devices[ONE].peak_bytes, meter.devices[ONE].peak_place) == (1500, HERE)
    watch = meter.start_peaks()
    meter.touch(ONE, 500, THERE)
    assert meter.end_peaks(watch) == {ONE: 1500, TWO: 0}
    assert meter.devices[ONE].peak_place == HERE  # as full as before
    watch = meter.start_peaks()
    meter.touch(ONE, 600, THERE)
    assert meter.end_peaks(watch)[ONE] == 1600
    assert (meter.devices[ONE].peak_bytes, meter.devices[ONE].peak_place) == (1600, THERE)


def test_the_peaks_of_a_record_are_those_of_devices_with_memory():
    meter = MemoryMeter()
    meter.touch(TWO, 50, THERE)
    meter.add_phantom(ONE, 70, HERE)
    meter.add_phantom(META, 900, HERE)
    first, second = device_peaks(meter, {ONE: 30}, {ONE: 20, TWO: 5})
    assert (first.device, first.weight_bytes, first.cache_bytes) == ("cuda:0", 30, 20)
    assert (first.peak_bytes, first.module, first.phase) == (70, *HERE)
    assert (second.device, second.weight_bytes, second.cache_bytes) == ("cuda:1", 0, 5)
    assert (second.peak_bytes, second.module, second.phase) == (50, *THERE)


# --------------------------------------------------------------------------------- activations


def found(watched: ActivationMeter) -> dict[tuple[str, str, str], int]:
    return {(each.block, each.phase, each.device): each.num_bytes for each in watched.found()}


def test_what_a_block_needs_beside_weights_and_cache():
    meter = MemoryMeter()
    meter.add_phantom(ONE, 1000, HERE)  # weights
    watched = ActivationMeter(meter)
    watched.start()
    meter.touch(ONE, 30, HERE)
    watched.enter("prefill")
    meter.touch(ONE, 9999, HERE)  # in the block, of which its own end tells
    watched.leave("a", "prefill", {ONE: 1500, TWO: 40}, {ONE: 100})
    watched.enter("prefill")
    watched.leave("b", "prefill", {ONE: 1500}, {ONE: 200, TWO: 7})
    assert found(watched) == {
        (BETWEEN, "prefill", "cuda:0"): 30,
        ("a", "prefill", "cuda:0"): 1500 - 1000 - 100,
        ("a", "prefill", "cuda:1"): 40,
        ("b", "prefill", "cuda:0"): 1500 - 1000 - 300,
    }
    # The most of all calls, each phase for itself; needs of nothing are not noted.
    watched.enter("decode 1")
    watched.leave("a", "decode 1", {ONE: 1310, TWO: 7}, {})
    watched.enter("decode 1")
    watched.leave("a", "decode 1", {ONE: 1305, TWO: 6}, {})
    assert found(watched)["a", "decode 1", "cuda:0"] == 10
    assert ("a", "decode 1", "cuda:1") not in found(watched)
    assert found(watched)["a", "prefill", "cuda:0"] == 400


def test_what_lies_between_blocks_belongs_to_the_phase_that_ends():
    meter = MemoryMeter()
    watched = ActivationMeter(meter)
    watched.turn("early")  # nothing is watched before the weights are there
    watched.start()
    meter.touch(ONE, 10, HERE)
    watched.turn("prefill")
    meter.touch(ONE, 20, HERE)
    watched.enter("decode 1")
    meter.touch(ONE, 500, HERE)
    watched.enter("decode 1")  # a block in a block
    watched.turn("decode 1")
    watched.leave("inner", "decode 1", {}, {})
    meter.touch(ONE, 600, HERE)
    watched.leave("outer", "decode 1", {}, {})
    meter.touch(ONE, 5, HERE)
    watched.stop("decode 2")
    assert found(watched) == {
        (BETWEEN, "prefill", "cuda:0"): 10,
        (BETWEEN, "decode 1", "cuda:0"): 20,
        (BETWEEN, "decode 2", "cuda:0"): 5,
    }
    never = ActivationMeter(MemoryMeter())
    never.stop("prefill")
    assert never.found() == ()


def test_bytes_that_a_block_gives():
    own = mark(on_meta_of(600), ONE, "a")
    given = (own, mark(own[:5], ONE, "a"), [mark(on_meta_of(1), TWO, "a")], {"x": None, "n": 3})
    foreign = mark(on_meta_of(9), ONE, "b")
    nowhere = mark(on_meta_of(9), None, "a")
    assert given_bytes((given, foreign, nowhere), "a") == {ONE: 1024, TWO: 512}
    assert beyond({ONE: 5}, {ONE: 9, TWO: 4}, {TWO: 3}) == {ONE: 4, TWO: 1}
    assert beyond({}, {ONE: 9}) == {ONE: 9}


# ------------------------------------------------------------------------------------ operands


def test_tensors_and_devices_among_arguments():
    a, b, c = torch.ones(1), torch.ones(2), torch.ones(3)
    assert list(map(id, tensor_operands((a, [b, None], 3), {"out": (c,), "d": "x"}))) == [
        id(a),
        id(b),
        id(c),
    ]
    meta = a.to("meta")
    moved = on_meta({"x": [a, (b, 3)], "d": torch.device("cpu"), "m": meta})
    assert moved["x"][0].is_meta and moved["x"][1][0].is_meta and moved["x"][1][1] == 3
    assert moved["d"] == META and moved["m"] is meta and type(moved["x"][1]) is tuple
    assert all_on_meta((meta, 3), {}, [meta])
    assert not all_on_meta((meta, a), {}, [meta, a])
    assert not all_on_meta((meta,), {"device": torch.device("cpu")}, [meta])


def test_positions_that_a_mask_selects():
    mask = torch.tensor([[True, False], [True, True]])
    assert [part.tolist() for part in selected_positions(mask)] == [[0, 1, 1], [0, 0, 1]]
    assert [p.tolist() for p in selected_positions(mask[0].to(torch.uint8))] == [[0]]
    for kept in (None, torch.tensor([1, 0])):
        (only,) = selected_positions(kept)
        assert only is kept
    first, second = selected_positions(mask.to("meta"))
    assert first.is_meta and first.shape == second.shape == (4,) and first.dtype == torch.int64


def test_results_that_would_be_too_large_are_asked_for_in_shape():
    small, huge = torch.ones(3), torch.empty(10**8, device="meta")
    assert is_large(huge) and not is_large(small)
    assert not may_grow(aten.view.default, (small, [10**9]), {}, [small])
    assert may_grow(aten.ones.default, ([3],), {}, [])
    assert not may_grow(aten.add.Tensor, (small, small), {}, [small, small])
    assert may_grow(aten.add.Tensor, (small, huge), {}, [small, huge])
    assert may_grow(aten.repeat.default, (small, [5000]), {}, [small])
    assert not may_grow(aten.repeat.default, (small, [4096]), {}, [small])
    assert may_grow(aten.arange.start_step, (0, 5000), {}, [small])
    assert not may_grow(aten.add.Tensor, (small, 5000.5), {}, [small])
    assert grows(aten.repeat.default, (small, [10**8]), {})
    assert not grows(aten.repeat.default, (small, [10]), {})
    assert not grows(aten.nonzero.default, (small,), {})  # no shape without values
    assert grows(aten.split.Tensor, (torch.empty(2 * 10**8, device="meta"), 10**8), {})


def test_batch_and_heads_of_attention():
    query, key = torch.ones(2, 8, 5, 4), torch.ones(2, 2, 7, 4)
    assert attended(query, key, key, enable_gqa=True)[2] == (2, 8)
    once, several = torch.ones(1, 8, 5, 4), torch.ones(3, 8, 7, 4)
    assert attended(once, several, several)[2] == (3, 8)


@pytest.mark.parametrize("dim", [None, 0, 1, -1])
@pytest.mark.parametrize(("rows", "columns"), [(3, 4), (1, 4), (3, 1)])
def test_elements_taken_along_are_pytorchs(dim, rows, columns):
    given = torch.arange(12.0).reshape(3, 4)
    indices = torch.randint(0, 3, (rows, columns), generator=torch.Generator().manual_seed(1))
    assert torch.equal(taken_along(given, indices, dim), torch.take_along_dim(given, indices, dim))


# ------------------------------------------------------------------------- repeats, parts


def test_lists_that_a_call_was_given_and_what_it_did_with_them():
    inner, outer, other = [1], [], []
    outer.extend((inner, 2))
    lists = lists_among((outer, 3, ({"x": other},)), {"y": (other,)})
    assert {id(items) for items, _ in lists} == {id(inner), id(outer), id(other)}
    assert are_as_before(lists)
    inner.append(5)
    assert not are_as_before(lists)
    inner.pop()
    assert are_as_before(lists)
    inner[0] = 7000
    assert not are_as_before(lists)


def test_a_call_of_a_single_block_that_gave_integers_stands_for_none():
    plain = SimpleNamespace(leaves=("shape", 3))
    integers = SimpleNamespace(leaves=("shape", torch.tensor([1])))
    again, layer = ("again", "norm"), ("Layer", 5)
    assert may_stand(plain, again) and not may_stand(integers, again)
    assert may_stand(plain, layer) and may_stand(integers, layer)
    assert not may_stand(None, again) and not may_stand(None, layer)


class Part(nn.Module):
    def generate(self, **kwargs):
        return kwargs


class Whole(Part):
    def __init__(self) -> None:
        super().__init__()
        self.talker, self.plain = Part(), nn.Linear(1, 1)


def test_parts_generate_no_more_than_the_model_is_asked_for():
    model = Whole()
    settings = SimpleNamespace(max_new_tokens=500, other=1)
    with parts_stop_after(model, 3):
        given = model.talker.generate(max_new_tokens=100, config=settings, top_k=50)
        assert given["max_new_tokens"] == 3 and given["top_k"] == 50
        assert given["config"].max_new_tokens == 3 and given["config"].other == 1
        less = model.talker.generate(max_new_tokens=2, config=SimpleNamespace(max_new_tokens=1))
        assert less["max_new_tokens"] == 2 and less["config"].max_new_tokens == 1
        assert model.talker.generate(max_new_tokens=None) == {"max_new_tokens": None}
        assert model.generate(max_new_tokens=100) == {"max_new_tokens": 100}
    assert settings.max_new_tokens == 500
    assert model.talker.generate(max_new_tokens=100) == {"max_new_tokens": 100}
    assert "generate" not in vars(model.talker)
