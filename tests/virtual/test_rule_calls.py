"""What rules read off a call of an op: which tensor came in where."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._pytree import tree_leaves

from devplan.virtual.labels import mark
from devplan.virtual.rules.plan import Assumed, device_rule_of
from devplan.virtual.rules.rule import read_call

ADD = torch.ops.aten.add.Tensor
CARD = torch.device("cuda", 1)

LEAVES = st.one_of(st.none(), st.integers(0, 3), st.builds(lambda: torch.empty(1, device="meta")))
NESTED = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(
    args=st.lists(NESTED, max_size=2).map(tuple), kwargs=st.fixed_dictionaries({"alpha": NESTED})
)
def test_positions_are_those_of_the_leaves_that_torch_counts(args, kwargs):
    leaves = tree_leaves((args, kwargs))
    call = read_call(ADD, args, kwargs)
    assert [seen.position for seen in call.seen] == [
        place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)
    ]
    assert all(leaves[seen.position] is seen.tensor for seen in call.seen)


def test_every_tensor_has_the_argument_and_the_path_that_it_came_in_by():
    first, second, third = (torch.empty(1, device="meta") for _ in range(3))
    mark(second, CARD, None)
    call = read_call(ADD, (first, [3, {"key": (second,)}]), {"alpha": third})
    assert [(seen.argument, seen.path) for seen in call.seen] == [
        ("self", "self"),
        ("other", "other[1]['key'][0]"),
        ("alpha", "alpha"),
    ]
    assert [str(seen.device) for seen in call.seen] == ["cpu", "cuda:1", "cpu"]
    assert [seen.tensor for seen in call.of("other")] == [second] and call.of("out") == ()


@pytest.mark.parametrize("name", ["_cdist_forward", "_embedding_bag_forward_only", "_masked_scale"])
def test_an_out_form_that_torch_generates_has_the_rule_of_its_op(name):
    op = getattr(torch.ops.aten, name)
    rules = [device_rule_of(op.default), device_rule_of(op.out)]
    assert type(rules[0]) is type(rules[1]) and not isinstance(rules[1], Assumed)


@pytest.mark.parametrize(
    ("func", "written"),
    [
        (torch.ops.aten.add.Tensor, []),
        (torch.ops.aten.add_.Tensor, ["self"]),
        (torch.ops.aten.add.out, ["out"]),
    ],
)
def test_what_an_op_writes_into_is_told_from_what_it_reads(func, written):
    one = torch.empty(1, device="meta")
    out = {"out": one} if "out" in written else {}
    call = read_call(func, (one, one), out)
    assert [seen.argument for seen in call.seen if seen.is_output] == written
