"""Ops of other packages: reported by name, and the run goes on where it can."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from devplan.models.blocks import partition
from devplan.virtual.calls import ForwardCall
from devplan.virtual.patches import VirtualCard
from devplan.virtual.run import SplitModel, run_split
from devplan.virtual.shapes import MOST_ELEMENTS

KERNELS = {
    "halves(Tensor x, Tensor y) -> Tensor": "CPU",
    "on_gpu(Tensor x, Tensor y) -> Tensor": "CUDA",
    "into(Tensor(a!) x, Tensor y) -> ()": "CUDA",
    "into_same(Tensor(a!) x, Tensor y) -> Tensor(a!)": "CUDA",
    "number(Tensor x, Tensor y) -> int": "CUDA",
    "shaped(Tensor x, Tensor y) -> Tensor": "Meta",
}


@pytest.fixture(scope="module")
def ops():
    with torch.library._scoped_library("devplan_unknown", "FRAGMENT") as library:
        for schema, backend in KERNELS.items():
            library.define(schema)
            library.impl(schema.partition("(")[0], lambda x, y: (x * y)[..., :4], backend)
        yield torch.ops.devplan_unknown


class Model(nn.Module):
    def __init__(self, op) -> None:
        super().__init__()
        self.config = None
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)
        self.op, self.shape = op, None

    def forward(self, x):
        x = self.first(x)
        result = self.op(x, self.last(x))
        self.shape.append(tuple(result.shape)) if isinstance(result, torch.Tensor) else None
        return self.last(x)


def run(op, rows: int = 2):
    with torch.device("meta"):
        model = Model(op)
    shapes = model.shape = []
    split = SplitModel(
        model=model,
        config=None,
        sites=partition(model, frozenset()),
        device_map={"first": "cuda:0", "last": "cuda:1"},
        main_device="cuda:0",
        cards=(VirtualCard(), VirtualCard()),
    )
    inputs = {"x": torch.empty(rows, 8, device="meta")}
    return run_split(split, inputs, described="", call=ForwardCall()), shapes


@pytest.mark.parametrize(
    ("name", "shapes", "is_guess"),
    [
        ("halves", [(2, 4)], False),  # its CPU kernel says so
        ("on_gpu", [(2, 8)], True),
        ("into", [], False),
        ("into_same", [(2, 8)], False),
        ("shaped", [(2, 4)], False),
    ],
)
def test_the_run_goes_on(ops, name, shapes, is_guess):
    record, seen = run(getattr(ops, name))
    full_name = f"devplan_unknown.{name}.default"
    assert record.error is None and record.phases == ("forward",)
    assert seen == shapes
    assert record.assumed_ops == (full_name,)
    assert record.guessed_ops == ((full_name,) if is_guess else ())
    assert [mismatch.op for mismatch in record.mismatches] == [full_name]  # operands lay apart


def test_a_large_operand_is_not_made_of_zeros(ops):
    record, seen = run(ops.halves, rows=MOST_ELEMENTS // 8 + 1)
    assert seen == [(MOST_ELEMENTS // 8 + 1, 8)]
    assert record.guessed_ops == ("devplan_unknown.halves.default",)


def test_a_number_cannot_be_guessed(ops):
    record, _ = run(ops.number)
    assert record.error.type == "NotImplementedError"
    assert "devplan_unknown::number" in record.error.message
    assert record.guessed_ops == ()
