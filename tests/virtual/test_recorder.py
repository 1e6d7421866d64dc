"""What is recorded of a run, counted once for each place, and again for layers that are folded."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from devplan.core.findings import BlockInput
from devplan.virtual.labels import mark
from devplan.virtual.recording import Recorder
from devplan.virtual.rules.rule import Mismatch, Operand

ONE, TWO = torch.device("cuda:0"), torch.device("cuda:1")


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.register_buffer("table", torch.ones(3))
        self.plain = torch.ones(5)

    def moves(self, recorder: Recorder, tensor: torch.Tensor, times: int = 1) -> None:
        for _ in range(times):
            recorder.transfer(tensor, ONE, TWO)

    def mixes(self, recorder: Recorder, *tensors: torch.Tensor) -> None:
        operands = tuple(
            Operand(
                argument="self",
                path=f"tensors[{position}]",
                position=position,
                device=device,
                shape=tuple(tensor.shape),
                dtype=tensor.dtype,
                num_bytes=8,
            )
            for position, (tensor, device) in enumerate(zip(tensors, (ONE, TWO), strict=False))
        )
        mismatch = Mismatch(message="apart", rule="r", operands=operands, target=ONE, moved=(1,))
        for _ in range(2):
            recorder.mismatch("aten.cat.default", mismatch, list(tensors))


def on(device, maker=None, sources=None, size: int = 4) -> torch.Tensor:
    return mark(torch.empty(size, device="meta"), device, maker, sources)


def test_a_transfer_is_known_by_its_line_its_phase_and_its_maker():
    model = Model()
    recorder = Recorder(model)
    recorder.phase = "prefill"
    model.moves(recorder, on(ONE, "layers.0"), times=3)
    model.moves(recorder, on(ONE, "layers.1"))
    recorder.phase = "decode 1"
    model.moves(recorder, on(ONE, "layers.0"))
    found = [(e.phase, e.maker, e.count) for e in recorder.transfers.values()]
    assert found == [
        ("prefill", "layers.0", 3),
        ("prefill", "layers.1", 1),
        ("decode 1", "layers.0", 1),
    ]
    first = next(iter(recorder.transfers.values()))
    assert (first.source_device, first.target_device, first.num_bytes) == ("cuda:0", "cuda:1", 16)
    assert (first.asked_by, first.module, first.argument) == ("to", "", None)
    assert first.source.text == "recorder.transfer(tensor, ONE, TWO)"


def test_a_mismatch_is_told_once_with_what_its_tensors_are_and_come_from():
    model = Model()
    recorder = Recorder(model)
    recorder.phase = "forward"
    weight, between = model.layers[0].weight, on(TWO, None, frozenset("ba"))
    model.mixes(recorder, weight, between)
    (event,) = recorder.mismatches.values()
    assert (event.count, event.op, event.phase, event.module) == (
        2,
        "aten.cat.default",
        "forward",
        "",
    )
    assert event.source == event.stack[-1] and "recorder.mismatch" in event.source.text
    first, second = event.operands
    assert (first.argument, first.device, first.name) == ("tensors[0]", "cuda:0", "layers.0.weight")
    assert (first.shape, first.dtype, first.num_bytes) == ((2, 2), "float32", 8)
    assert (second.name, second.makers) == (None, ("a", "b"))


def test_what_no_block_made_follows_the_result_that_came_last_on_its_device():
    model = Model()
    recorder = Recorder(model)
    for block in ("layers.0", "layers.1"):
        recorder.start(block)
        recorder.finish(block, (on(ONE, block), on(TWO, "embed")), None)
    model.mixes(recorder, model.table, model.plain)
    (event,) = recorder.mismatches.values()
    assert [operand.makers for operand in event.operands] == [("layers.1",), ()]
    assert [operand.name for operand in event.operands] == ["table", "plain"]


def test_events_of_a_layer_are_those_of_the_layers_that_it_stands_for():
    model = Model()
    recorder = Recorder(model)
    recorder.made_up_value("aten.argmax.default")
    recorder.start("layers.0")
    model.mixes(recorder, model.table, model.plain)
    recorder.made_up_value("aten.nonzero.default")
    model.moves(recorder, on(ONE, "layers.0"))
    events = recorder.finish("layers.0", None, None)
    assert [kind for kind, _ in events] == ["mismatches", "mismatches", "made_up", "transfers"]
    recorder.repeat("layers.1", "layers.0", events)
    assert [event.count for event in recorder.mismatches.values()] == [4]
    assert {each.op: each.count for each in recorder.made_up_values()} == {
        "aten.argmax.default": 1,
        "aten.nonzero.default": 2,
    }
    # The copy belongs to the code around the layers: it is counted again where it is.
    assert [(e.module, e.maker, e.count) for e in recorder.transfers.values()] == [
        ("", "layers.0", 2)
    ]


class Inner(nn.Module):
    def forward(self, recorder, tensor):
        recorder.transfer(tensor, ONE, TWO)


def test_copies_inside_a_layer_are_repeated_inside_the_other():
    model = nn.Module()
    model.layers = nn.ModuleList([nn.Module(), nn.Module()])
    model.layers[0].inner = Inner()
    recorder = Recorder(model)
    recorder.start("layers.0")
    model.layers[0].inner(recorder, on(ONE, "layers.0"))
    model.layers[0].inner(recorder, on(ONE, "embed"))
    recorder.repeat("layers.1", "layers.0", recorder.finish("layers.0", None, None))
    assert [(e.module, e.maker, e.count) for e in recorder.transfers.values()] == [
        ("layers.0.inner", "layers.0", 1),
        ("layers.0.inner", "embed", 1),
        ("layers.1.inner", "layers.1", 1),
        ("layers.1.inner", "embed", 1),
    ]


def test_what_enters_a_block_is_counted_by_what_it_is():
    recorder = Recorder(Model())
    recorder.begin(SimpleNamespace(phase="prefill", is_in_first_phase=True))
    assert recorder.phase == "prefill"
    recorder.enter("layers.0", (on(ONE, "embed"), [on(ONE, "embed")]), {"m": on(TWO), "n": 3})
    recorder.enter("layers.0", (torch.ones(2),), {})  # on no device
    recorder.begin(SimpleNamespace(phase="decode 1", is_in_first_phase=False))
    recorder.enter("layers.0", (on(ONE, "embed"),), {})  # of the first phase alone
    entering = {"block": "layers.0", "num_bytes": 16}
    assert recorder.block_inputs() == (
        BlockInput(**entering, maker="embed", device="cuda:0", count=2),
        BlockInput(**entering, maker=None, device="cuda:1", count=1),
    )


def test_one_of_the_same_names_has_recorded_nothing():
    model = Model()
    recorder = Recorder(model)
    recorder.phase = "prefill"
    recorder.used.add("x")
    model.moves(recorder, on(ONE))
    other = recorder.anew()
    assert other.phase == "" and not other.transfers and not other.used
    model.mixes(other, model.layers[1].bias)
    (event,) = other.mismatches.values()
    assert event.operands[0].name == "layers.1.bias"
    assert not recorder.mismatches and len(recorder.transfers) == 1
