"""The generated facts are those of the torch that they name, and every op in them has a rule."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from devplan.virtual.rules.plan import Assumed, device_rule_of, native_facts
from devplan.virtual.rules.table import EXACT, FAMILIES
from tests.virtual.replay_on_meta import overload
from tools.native_rules import DATA, native_text

ROOT = Path(__file__).parents[2]

WITHOUT_A_RULE = {
    # Training: backward passes, fused optimizers, forward-mode derivatives, CTC loss.
    "_efficient_attention_backward", "_flash_attention_backward",
    "_scaled_dot_product_efficient_attention_backward",
    "_scaled_dot_product_flash_attention_backward",
    "_scaled_dot_product_fused_attention_overrideable_backward",
    "_fused_adagrad_.tensor_lr", "_fused_adam_.tensor_lr", "_fused_adamw_.tensor_lr",
    "_fused_sgd_.tensor_lr", "_make_dual", "_make_dual_copy",
    "_new_zeros_with_same_feature_meta", "convolution_backward_overrideable",
    "huber_loss_backward", "masked_scatter_backward", "rrelu_with_noise_backward",
    "slice_inverse", "smooth_l1_loss_backward", "soft_margin_loss_backward",
    "soft_margin_loss_backward.grad_input", "_grid_sampler_2d_cpu_fallback_backward",
    "_cudnn_ctc_loss", "_cudnn_ctc_loss.Tensor", "_use_cudnn_ctc_loss",
    "_use_cudnn_ctc_loss.Tensor", "_use_miopen_ctc_loss", "_use_miopen_ctc_loss.Tensor",
    "miopen_ctc_loss", "miopen_ctc_loss.Tensor",
    # Nested and sparse tensors.
    "_nested_from_padded", "_nested_tensor_from_tensor_list", "_nested_view_from_buffer",
    "_nested_view_from_buffer_copy", "_nested_view_from_jagged_copy", "_sparse_addmm",
    "_validate_compressed_sparse_indices", "sparse_compressed_tensor.comp_plain_value",
    "sparse_compressed_tensor.comp_plain_value_size",
    # Other backends, and inner forms that only the compiler makes.
    "_grid_sampler_2d_cpu_fallback", "_nnpack_spatial_convolution", "_unsafe_masked_index",
    "_unsafe_masked_index_put_accumulate",
    # Composites whose parts fall to different rules.
    "_euclidean_dist", "block_diag", "cholesky_solve", "cholesky_solve.out", "linalg_lstsq",
    "linalg_pinv.atol_rtol_tensor", "linalg_pinv.atol_rtol_tensor_out", "linear.out",
}  # fmt: skip


def is_pinned() -> bool:
    return torch.__version__.split("+")[0] == native_facts().torch


def test_the_file_is_what_the_generator_says():
    if not is_pinned():
        pytest.skip(f"native.json was made from torch {native_facts().torch}")
    remedy = "run `make pages`"
    assert (ROOT / DATA).read_text(encoding="utf-8") == native_text(), remedy


def test_every_unchecked_op_has_a_rule_or_a_reason():
    if not is_pinned():
        pytest.skip("ops come and go with releases")
    facts = native_facts()
    ops = {name: overload(name) for name in facts.unchecked | facts.composed}
    assumed = {n for n, func in ops.items() if func and isinstance(device_rule_of(func), Assumed)}
    assert assumed == WITHOUT_A_RULE & ops.keys()


def test_no_rule_is_for_an_op_that_does_not_exist():
    if not is_pinned():
        pytest.skip("ops come and go with releases")
    names = set(torch.ops.aten._dir) | {
        s.name.removeprefix("aten::") for s in torch._C._jit_get_all_schemas()
    }
    unknown = [name for name in FAMILIES if not {name, name + "_"} & names]
    assert unknown == []
    assert [name for name in EXACT if overload(name) is None] == []


def test_every_rule_says_where_it_is_written_down():
    for rule in [*FAMILIES.values(), *EXACT.values()]:
        assert rule.name
        assert any(part in rule.source for part in ("aten/src/", "torchgen/"))


def test_the_facts_hold_what_pytorch_users_have_seen():
    checked = native_facts().checked
    # Messages from issue trackers name these wrappers.
    assert checked["index_select"] == "_index_select"
    assert checked["masked_scatter_"] == "_masked_scatter_"
    assert checked["index_copy_"] == "index_copy_"
    assert checked["bucketize.Tensor"] == "Tensor_bucketize"
    assert checked["clamp.Tensor"] == "clamp_Tensor"
    assert checked["native_layer_norm"] == "_native_layer_norm"
    assert checked["scatter_.value"] == "scatter__value"
    assert checked["addmm"] == "addmm"
    assert not {"index.Tensor", "add.Tensor", "copy_", "where.self"} & checked.keys()
