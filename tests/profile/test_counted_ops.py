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


def test_a_transposed_convolution_works_at_the_positions_that_enter_it():
    weight, settings = meta(3, 6, 2, 2), ([2, 2], [0, 0], [1, 1], True)
    given, made = meta(2, 3, 4, 4), meta(2, 6, 8, 8)
    args = (given, weight, None, *settings)
    assert counted(aten.convolution, *args, result=made) == (2 * 2 * 16 * 72, [144])
    args = (meta(2, 6, 8, 8), weight, None, *settings[:3], False)
    assert counted(aten.convolution, *args, result=given)[0] == 2 * 2 * 16 * 72


def test_a_look_up_reads_what_it_gives():
    for op in (aten.embedding, aten.index, aten.index_select):
        assert counted(op, meta(99, 4), meta(3), result=meta(3, 4)) == (0, [24])


@pytest.mark.skipif(not hasattr(aten, "_grouped_mm"), reason="this torch has no grouped product")
def test_a_grouped_product_of_one_matrix_or_of_no_rows():
    made = meta(6, 5)
    assert counted(aten._grouped_mm, meta(6, 4), meta(4, 5), result=made) == (240, [40])
    assert counted(aten._grouped_mm, meta(0, 4), meta(8, 4, 5), result=meta(0, 5)) == (0, [])


def test_attention_of_one_token_is_whole_and_a_batch_multiplies():
    query, key, value = meta(3, 4, 1, 16), meta(3, 2, 10, 16), meta(3, 2, 10, 8)
    whole = attention_flops(query, key, value, is_causal=True)
    assert whole == 2 * 3 * 4 * 10 * 24


def test_attention_skips_what_a_causal_mask_hides():
    query, key, value = meta(1, 4, 10, 16), meta(1, 2, 10, 16), meta(1, 2, 10, 8)
    whole = attention_flops(query, key, value)
    assert whole == 2 * 4 * 100 * 24
    assert attention_flops(query, key, value, is_causal=True) == whole // 2
