"""What is made again from memory is what the op gives."""

from __future__ import annotations

import pytest
import torch

from devplan.virtual.shapes import KnownShapes

aten = torch.ops.aten


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def layout(tensor: torch.Tensor) -> tuple:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.untyped_storage().nbytes()


CALLS = {
    "add": (aten.add.Tensor, (meta(3, 4), meta(4)), {}),
    "add of a transposed tensor": (aten.add.Tensor, (meta(4, 3).t(), meta(3, 4)), {}),
    "mm": (aten.mm.default, (meta(3, 4), meta(4, 5)), {}),
    "to another dtype": (aten._to_copy.default, (meta(3),), {"dtype": torch.bfloat16}),
    "several results": (aten.topk.default, (meta(3, 9), 2), {}),
    "cat": (aten.cat.default, ([meta(2, 3), meta(4, 3)], 0), {}),
    "sum": (aten.sum.dim_IntList, (meta(3, 4), [1]), {}),
}


@pytest.mark.parametrize(("func", "args", "kwargs"), CALLS.values(), ids=CALLS)
def test_the_second_call_gives_the_same_anew(func, args, kwargs):
    known = KnownShapes()
    first, second = (known.call(func, args, kwargs) for _ in range(2))
    plain = func(*args, **kwargs)
    assert len(known._results) == 1 and type(second) is type(plain)
    each = [(item,) if torch.is_tensor(item) else item for item in (first, second, plain)]
    for one, other, real in zip(*each, strict=True):
        assert one is not other
        assert layout(one) == layout(other) == layout(real)


def test_numbers_of_other_types_are_other_calls():
    known, tensor = KnownShapes(), meta(3, dtype=torch.int64)
    results = [known.call(aten.add.Tensor, (tensor, number), {}) for number in (1, 1.0, True)]
    assert [result.dtype for result in results] == [torch.int64, torch.float32, torch.int64]


def test_the_default_dtype_matters():
    known, tensor = KnownShapes(), meta(3, dtype=torch.int64)
    known.call(aten.add.Tensor, (tensor, 1.0), {})
    torch.set_default_dtype(torch.float64)
    try:
        assert known.call(aten.add.Tensor, (tensor, 1.0), {}).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("func", "args"),
    [
        (aten.view.default, (meta(4, 3), [12])),
        (aten.add_.Tensor, (meta(3), meta(3))),
        (aten.split.Tensor, (meta(4, 3), 2)),
    ],
)
def test_views_and_writes_are_run_every_time(func, args):
    known = KnownShapes()
    for _ in range(2):
        result = known.call(func, args, {})
        result = result if torch.is_tensor(result) else result[0]
        assert result.untyped_storage()._cdata == args[0].untyped_storage()._cdata
    assert not known._results


def test_what_raises_raises_again():
    known = KnownShapes()
    for _ in range(2):
        with pytest.raises(RuntimeError):
            known.call(aten.mm.default, (meta(3, 4), meta(5, 6)), {})
