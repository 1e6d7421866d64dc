"""What a verdict carries: devices, operands with positions, and a repair that works."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._pytree import tree_flatten, tree_unflatten

from devplan.virtual.rules.plan import (
    decomposes,
    device_rule_of,
    has_no_rule,
    judge_function,
    judge_op,
)
from devplan.virtual.rules.rule import read_call
from tests.virtual.rules_bench import at

aten = torch.ops.aten
GPU0, GPU1 = torch.device("cuda:0"), torch.device("cuda:1")


def x() -> torch.Tensor:
    return torch.ones(2, 3)


def number() -> torch.Tensor:
    return torch.tensor(1.0)


def ids() -> torch.Tensor:
    return torch.tensor([0, 1])


IMAGE = torch.ones(1, 1, 4)
GRID = torch.ones(1, 2, 2, 2)
CALLS = [
    (aten.mm.default, (x(), x().T), {}),
    (aten.addmm.default, (torch.ones(2), x(), x().T), {}),
    (aten.cat.default, ([x(), torch.tensor([]), x()], 0), {}),
    (aten.add.Tensor, (x(), number()), {"alpha": 2}),
    (aten.add_.Tensor, (number(), number()), {}),
    (aten.mul.Tensor, (x(), 2.0), {}),
    (aten.addcmul.default, (x(), number(), number()), {}),
    (aten.add.out, (x(), x()), {"out": x()}),
    (aten.where.self, (x() > 0, number(), x()), {}),
    (aten.index.Tensor, (x(), [None, ids()]), {}),
    (aten.index_put_.default, (x(), [ids(), ids()], torch.ones(2)), {}),
    (aten.index_put.default, (x(), [x() > 0], torch.ones(1), True), {}),
    (aten.masked_fill.Tensor, (x(), x() > 0, number()), {}),
    (aten.index_fill.int_Tensor, (x(), 0, ids(), number()), {}),
    (aten.embedding.default, (x(), ids()), {}),
    (aten.copy_.default, (x(), x()), {}),
    (aten.native_layer_norm.default, (x(), [3], torch.ones(3), None, 1e-5), {}),
    (aten._foreach_add.List, ([x(), x()], [x(), x()]), {}),
    (aten.grid_sampler_2d.default, (torch.ones(1, 1, 2, 2), GRID, 0, 0, True), {}),
    (aten.scaled_dot_product_attention.default, (x(), x(), x(), torch.ones(2, 2)), {}),
    (aten.convolution.default, (IMAGE, IMAGE, torch.ones(1), [1], [0], [1], False, [0], 1), {}),
    (aten.linear.default, (x(), x()), {}),
    (aten._pack_padded_sequence.default, (x(), ids(), True), {}),
]  # fmt: skip

DEVICES = st.sampled_from([None, "cpu", "cuda:0", "cuda:1"])


def labelled(args, kwargs, labels):
    """The call with its tensors on the devices in turn."""
    flat, spec = tree_flatten((args, kwargs))
    turn = iter(labels)
    placed = [at(next(turn), item) if isinstance(item, torch.Tensor) else item for item in flat]
    return tree_unflatten(placed, spec)


@st.composite
def calls(draw):
    func, args, kwargs = draw(st.sampled_from(CALLS))
    num_tensors = sum(isinstance(item, torch.Tensor) for item in tree_flatten((args, kwargs))[0])
    labels = [draw(DEVICES) for _ in range(num_tensors)]
    return func, *labelled(args, kwargs, labels)


@given(calls())
@settings(max_examples=300, deadline=None)
def test_moving_what_the_verdict_names_repairs_the_call(call):
    func, args, kwargs = call
    verdict = judge_op(func, args, kwargs)
    mismatch = verdict.mismatch
    if mismatch is None:
        return
    assert mismatch.moved
    flat, spec = tree_flatten((args, kwargs))
    for operand in mismatch.operands:
        tensor = flat[operand.position]
        assert tuple(tensor.shape) == operand.shape
        assert tensor.dtype == operand.dtype
        assert operand.num_bytes == tensor.numel() * tensor.element_size()
    assert set(mismatch.moved) <= {operand.position for operand in mismatch.operands}
    for position in mismatch.moved:
        flat[position] = at(str(mismatch.target), flat[position])
    again = judge_op(func, *tree_unflatten(flat, spec))
    assert again.mismatch is None
    assert verdict.device == mismatch.target


@given(st.sampled_from(CALLS), DEVICES)
@settings(max_examples=100, deadline=None)
def test_one_device_is_never_a_mismatch(call, device):
    func, args, kwargs = call
    if func is aten._pack_padded_sequence.default and device not in (None, "cpu"):
        return
    verdict = judge_op(func, *labelled(args, kwargs, [device] * 8))
    assert verdict.mismatch is None
    assert verdict.device in (device and torch.device(device), torch.device(device or "cpu"))


@pytest.mark.parametrize("device", [None, "cuda:1"])
def test_operands_on_one_device_are_judged_in_one_walk(monkeypatch, device):
    """Nearly all calls of a run are of that kind: they are not read argument by argument."""

    def never(*_):
        raise AssertionError("the call was read")

    monkeypatch.setattr("devplan.virtual.rules.plan.read_call", never)
    for func, args, kwargs in CALLS:
        if func is not aten._pack_padded_sequence.default:
            verdict = judge_op(func, *labelled(args, kwargs, [device] * 8))
            assert verdict.device == (device and torch.device(device))
    near = [at(device, x())]
    judge_op(aten._foreach_add.List_out, (near, near), {"out": near})
    judge_op(aten.clamp.Tensor, (near[0], None, near[0]))
    with pytest.raises(AssertionError, match="was read"):
        judge_op(aten.mm.default, (at("cuda:0", x()), at("cuda:1", x().T)))


@pytest.mark.parametrize("call", CALLS, ids=lambda call: str(call[0]))
@pytest.mark.parametrize("labels", [[None, "cpu"], ["cpu", None]])
def test_without_a_label_a_tensor_lies_on_the_cpu(call, labels):
    func, args, kwargs = call
    verdict = judge_op(func, *labelled(args, kwargs, labels * 4))
    assert verdict.mismatch is None
    several = sum(isinstance(item, torch.Tensor) for item in tree_flatten((args, kwargs))[0]) > 1
    assert verdict.device == (torch.device("cpu") if several or labels[0] else None)


def test_operands_are_named_and_placed():
    far = at("cuda:1", ids())
    args = (at("cuda:0", x()), [None, at("cuda:0", ids()), far])
    mismatch = judge_op(aten.index.Tensor, args, {}).mismatch
    assert [operand.path for operand in mismatch.operands] == ["self", "indices[1]", "indices[2]"]
    assert [operand.argument for operand in mismatch.operands] == ["self", "indices", "indices"]
    assert mismatch.moved == (3,)
    assert mismatch.target == GPU0
    assert tree_flatten((args, {}))[0][3] is far


def test_the_device_argument_decides_where_a_result_lies():
    for func, args in [
        (aten.zeros.default, ([2],)),
        (aten.empty_like.default, (at("cuda:0", x()),)),
        (aten._to_copy.default, (at("cuda:0", x()),)),
    ]:
        verdict = judge_op(func, args, {"device": GPU1})
        assert (verdict.device, verdict.named, verdict.mismatch) == (GPU1, True, None)


def test_without_operands_or_device_a_result_is_a_plain_cpu_tensor():
    assert judge_op(aten.arange.default, (3,), {}).device is None


def test_results_follow_the_operand_that_the_op_writes_into_or_reads():
    near, far = at("cuda:0", x()), at("cuda:1", x())
    assert judge_op(aten.copy_.default, (near, far), {}).device == GPU0
    assert judge_op(aten.type_as.default, (near, far), {}).device == GPU1
    assert judge_op(aten.mul.Tensor, (at(None, number()), far), {}).device == GPU1
    condition = at("cuda:0", x() > 0)
    assert (
        judge_op(aten.where.self, (condition, at(None, number()), at(None, number())), {}).device
        == GPU0
    )
    assert judge_op(aten.index.Tensor, (far, [at(None, ids())]), {}).device == GPU1


PACKED = (aten._pack_padded_sequence.default, (x(), ids(), True), {})
IN_SILENCE = [
    # (call, devices of its tensors in turn, device of the result)
    ((aten.index_put.default, (x(), [ids()], x()), {}), ["cuda:0", "cuda:1", "cuda:0"], GPU0),
    ((aten.index_put_.default, (x(), [ids()], number()), {}), ["cuda:1", None, "cuda:0"], GPU1),
    ((aten.masked_fill.Tensor, (x(), x() > 0, number()), {}), ["cuda:1", "cuda:1", None], GPU1),
    ((aten.index_fill.int_Tensor, (x(), 0, ids(), number()), {}), ["cuda:1"] * 2 + [None], GPU1),
    ((aten.index.Tensor, (x(), [ids()]), {}), ["cuda:1", None], GPU1),
    ((aten._foreach_add.List, ([x()], [number()]), {}), ["cuda:1", None], GPU1),
    ((aten.addcmul.default, (x(), x(), number()), {}), ["cuda:1", "cuda:1", None], GPU1),
    ((aten.add.out, (x(), number()), {"out": x()}), ["cuda:1", None, "cuda:1"], GPU1),
    ((aten.where.self, (number() > 0, x(), number()), {}), [None, "cuda:1", "cuda:0"], GPU1),
    ((aten.slice_scatter.default, (x(), x()), {}), ["cuda:1", "cuda:0"], GPU1),
    ((aten.fill_.Tensor, (x(), number()), {}), ["cuda:1", "cuda:0"], GPU1),
    (PACKED, ["cuda:1", None], GPU1),
    (PACKED, ["cuda:1", "cpu"], GPU1),
]


@pytest.mark.parametrize(("call", "devices", "home"), IN_SILENCE)
def test_results_of_calls_that_may_mix_devices_lie_where_pytorch_has_them(call, devices, home):
    func, args, kwargs = call
    verdict = judge_op(func, *labelled(args, kwargs, devices))
    assert verdict.mismatch is None and verdict.device == home


def test_tensors_in_lists_of_keyword_arguments_are_operands_too():
    near, far = [at("cuda:0", x())], [at("cuda:1", x())]
    assert judge_op(aten._foreach_add.List_out, (near, near), {"out": near}).mismatch is None
    mismatch = judge_op(aten._foreach_add.List_out, (near, near), {"out": far}).mismatch
    assert [operand.path for operand in mismatch.operands] == ["self[0]", "other[0]", "out[0]"]
    assert mismatch.target == GPU1 and mismatch.moved == (0, 1)


def test_the_first_pair_of_lists_that_clashes_is_told_and_all_are_repaired():
    one = [at("cuda:1", x()), at("cuda:0", x()), at("cuda:1", x())]
    other = [at("cuda:1", x()), at("cuda:1", x()), at("cuda:0", x())]
    mismatch = judge_op(aten._foreach_add.List, (one, other), {}).mismatch
    assert mismatch.message.endswith("cuda:0 and cuda:1!") and mismatch.target == GPU0
    assert sorted(mismatch.moved) == [2, 4]


def test_what_a_view_is_of_is_not_written_into():
    for func, written in ((aten.view_as.default, False), (aten.add_.Tensor, True)):
        first, second = read_call(func, (x(), x()), {}).seen
        assert (first.is_output, second.is_output) == (written, False)


def test_written_operands_stay_where_they_are():
    verdict = judge_op(aten.add_.Tensor, (at(None, x()), at("cuda:0", x())), {})
    assert verdict.mismatch.target == torch.device("cpu")
    assert verdict.mismatch.moved == (1,)
    verdict = judge_op(aten.add.Tensor, (at(None, x()), at("cuda:0", x())), {})
    assert verdict.mismatch.target == GPU0
    assert verdict.mismatch.moved == (0,)


def test_an_offloaded_weight_is_told_as_pytorch_does():
    for first, second in (("cuda:0", "meta"), ("meta", "cuda:0")):
        call = (at(first, x()), at(second, x().T))
        message = judge_op(aten.mm.default, call, {}).mismatch.message
        assert message == "Tensor on device cuda:0 is not on the expected device meta!"


def test_packed_lengths_belong_on_the_cpu_even_if_all_is_on_one_gpu():
    call = (at("cuda:0", x()), at("cuda:0", ids()), True)
    mismatch = judge_op(aten._pack_padded_sequence.default, call, {}).mismatch
    assert (
        "'lengths' argument should be a 1D CPU int64 tensor, but got 1D cuda:0" in mismatch.message
    )
    assert mismatch.moved == (1,)


def test_recurrent_layers_name_the_kind_of_tensor():
    weights = [at("cuda:1", torch.ones(8, 2)) for _ in range(2)]
    hidden = [at("cuda:0", torch.ones(1, 1, 2)) for _ in range(2)]
    call = (at("cuda:0", torch.ones(1, 1, 2)), hidden, weights, False, 1, 0.0, False, False, False)
    message = judge_op(aten.lstm.input, call, {}).mismatch.message
    assert message == (
        "Input and parameter tensors are not at the same device, "
        "found input tensor at cuda:0 and parameter tensor at cuda:1"
    )


@pytest.mark.parametrize(
    ("weight", "hidden", "said"),
    [
        ("cuda:1", "cuda:0", "parameter tensor at cuda:1"),
        ("cuda:0", "cuda:1", "hidden tensor at cuda:1"),
        ("cpu", "cuda:1", "hidden tensor at cuda:1"),  # hidden states are looked at first
    ],
)
def test_the_kernel_of_a_recurrent_layer_says_the_same(weight, hidden, said):
    given = at("cuda:0", torch.ones(1, 1, 2))
    weights = [at(weight, torch.ones(8, 2))]
    state = at(hidden, torch.ones(1, 1, 2))
    rest = (2, 2, 0, 1, False, 0.0, False, False, [], None)
    call = (given, weights, 4, None, state, state, *rest)
    message = judge_op(aten._cudnn_rnn.default, call, {}).mismatch.message
    assert message.endswith(f"found input tensor at cuda:0 and {said}")


def test_half_precision_convolution_uses_the_type_names_of_pytorch():
    image, weight = torch.ones(1, 1, 4), torch.ones(1, 1, 2)
    rest = (None, [1], [0], [1], False, [0], 1)
    for dtype, near, far in [
        (torch.bfloat16, "CUDABFloat16Type", "CPUBFloat16Type"),
        (torch.float16, "torch.cuda.HalfTensor", "torch.HalfTensor"),
    ]:
        call = (at("cuda:0", image.to(dtype)), at(None, weight.to(dtype)), *rest)
        message = judge_op(aten.convolution.default, call, {}).mismatch.message
        assert message == f"Input type ({near}) and weight type ({far}) should be the same"


def test_an_unknown_op_is_judged_by_the_default_and_says_so():
    with torch.library._scoped_library("devplan_rules_test", "FRAGMENT") as library:
        library.define("mix(Tensor a, Tensor b) -> Tensor")
        library.impl("mix", lambda a, b: a + b, "CompositeExplicitAutograd")
        func = torch.ops.devplan_rules_test.mix.default
        mismatch = judge_op(func, (at("cuda:0", x()), at("cuda:1", x())), {}).mismatch
        assert mismatch.assumed
        assert "cuda:0 and cuda:1" in mismatch.message
        for call in ((x(), number()), (number(), x())):
            placed = [at("cuda:0" if item.dim() else None, item) for item in call]
            verdict = judge_op(func, tuple(placed), {})
            assert verdict.mismatch is None and verdict.device == GPU0


def test_composite_ops_are_told_apart():
    assert decomposes(aten.linear.default)
    assert not decomposes(aten.addmm.default)
    assert device_rule_of(aten.addmm.default).name == "one device, scalars included"


def test_which_ops_have_no_rule():
    """Under ``inference_mode`` composite ops arrive whole: they need none, their parts have."""
    composite = (
        aten.linear.default,
        aten.matmul.default,
        aten.einsum.default,
        aten.cosine_similarity.default,
    )
    assert any(type(device_rule_of(func)).__name__ == "Assumed" for func in composite)
    assert not any(map(has_no_rule, composite))
    with torch.library._scoped_library("devplan_rules_test", "FRAGMENT") as library:
        for name, arguments, operands in (
            ("two", "Tensor a, Tensor b", 2),
            ("several", "Tensor[] a", 2),
            ("one", "Tensor a, int b", 1),
            ("out_only", "Tensor a, *, Tensor(a!) out", 1),
        ):
            result = "Tensor(a!)" if name == "out_only" else "Tensor"
            library.define(f"{name}({arguments}) -> {result}")
            func = getattr(torch.ops.devplan_rules_test, name).default
            assert has_no_rule(func) is (operands > 1), name


def test_attention_as_a_function_is_judged_whole():
    query = at("cuda:0", torch.ones(1, 2, 4, 8))
    verdict = judge_function(
        F.scaled_dot_product_attention,
        (query, query, query),
        {"attn_mask": at("cuda:1", torch.ones(4, 4)), "scale": 1.0},
    )
    assert "attn_bias is on cuda:1" in verdict.mismatch.message
    assert verdict.mismatch.operands[-1].argument == "attn_mask"
    assert judge_function(torch.add, (query, query)) is None
    assert judge_function(F.scaled_dot_product_attention, (query, query, query)).device == GPU0


def test_a_python_number_is_no_operand():
    assert judge_op(aten.mul.Tensor, (at("cuda:0", x()), 2.0), {}).device == GPU0
