"""Flops and bytes of single ops, by hand."""

from __future__ import annotations

import pytest
import torch

from devplan.profile.work import COUNTED_OPS, attention_flops

aten = torch.ops.aten


def meta(*shape, dtype=torch.bfloat16):
    return torch.empty(shape, dtype=dtype, device="meta")


def counted(op, *args, result):
    flops, read = COUNTED_OPS[op](args, {}, result)
    return flops, [size for _, size in read]


def test_products():
    assert counted(aten.mm, meta(3, 4), meta(4, 5), result=meta(3, 5)) == (120, [24, 40])
    assert counted(aten.bmm, meta(2, 3, 4), meta(2, 4, 5), result=meta(2, 3, 5))[0] == 240
    bias = meta(5)
    assert counted(aten.addmm, bias, meta(3, 4), meta(4, 5), result=meta(3, 5))[0] == 120


def test_a_product_without_rows_reads_nothing():
    assert counted(aten.mm, meta(0, 4), meta(4, 5), result=meta(0, 5)) == (0, [])


@pytest.mark.skipif(not hasattr(aten, "_grouped_mm"), reason="this torch has no grouped product")
@pytest.mark.parametrize(("rows", "groups"), [(1, 1), (3, 3), (8, 8), (100, 8)])
def test_a_grouped_product_reads_a_matrix_a_row_at_most(rows, groups):
    args = (meta(rows, 4), meta(8, 4, 5))
    assert counted(aten._grouped_mm, *args, result=meta(rows, 5)) == (rows * 40, [groups * 40])


def test_a_convolution():
    flops, read = counted(
        aten.convolution, meta(1, 3, 8, 8), meta(6, 3, 2, 2), result=meta(1, 6, 4, 4)
    )
    assert (flops, read) == (2 * 16 * 72, [144])


def test_attention_skips_what_a_causal_mask_hides():
    query, key, value = meta(1, 4, 10, 16), meta(1, 2, 10, 16), meta(1, 2, 10, 8)
    whole = attention_flops(query, key, value)
    assert whole == 2 * 4 * 100 * 24
    assert attention_flops(query, key, value, is_causal=True) == whole // 2
