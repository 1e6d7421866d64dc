"""Mismatches of runs, sorted by what went wrong, and one mistake told once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devplan.core.findings import RunRecord, SourceLine
from devplan.rules.mismatches import (
    MismatchKind,
    broke_inside,
    mismatch_groups,
    mismatch_kind,
    mixture,
    odd_operands,
    one_mistake,
    stray_operand,
)
from tests.checks.test_remedies import EVEN, FAR, NEAR, STRUCTURE, event, operand, subject


def line(number: int, file: str = "a.py") -> SourceLine:
    return SourceLine(file=file, line=number, function="f", text="")


CACHE = line(1, "transformers/cache_utils.py")


def run(*events, executed=()) -> RunRecord:
    return RunRecord(
        phases=("prefill",), inputs="text", mismatches=events, executed=frozenset(executed)
    )


# ---------------------------------------------------------------------------------------- kinds


@pytest.mark.parametrize(
    ("met", "kind"),
    [
        (event("model", NEAR, FAR), MismatchKind.MISMATCH),
        # a weight without the hook that loads it, whatever else there is
        (event("model", NEAR, operand("meta", "model.norm.weight")), MismatchKind.OFFLOADED),
        (replace(event("model", NEAR, operand("meta")), source=CACHE), MismatchKind.OFFLOADED),
        # code of transformers' caches, in the line or on the way to it
        (replace(event("model", NEAR, FAR), source=CACHE), MismatchKind.CACHE),
        (replace(event("model", NEAR, FAR), source=line(1), stack=(CACHE,)), MismatchKind.CACHE),
        (replace(event("model", NEAR, FAR), source=line(1, "my_cache.py")), MismatchKind.MISMATCH),
        # a tensor of a module that is hooked goes where its hook says; others nobody moves
        (event("model", NEAR, operand("cuda:1", "model.norm.weight")), MismatchKind.MISMATCH),
        (event("model", operand("cuda:0", "free"), FAR), MismatchKind.MISMATCH),
        (event("model", NEAR, operand("cuda:1", "free")), MismatchKind.STRAY),
        (event("model.layers.1", NEAR, operand("cuda:1", "free")), MismatchKind.MISMATCH),
        (event("model.layers.1", operand("cuda:0", "free"), FAR), MismatchKind.STRAY),
    ],
)
def test_what_went_wrong(met, kind):
    assert mismatch_kind(met, subject(EVEN)) is kind


def test_a_tensor_of_a_module_without_a_hook_is_stray():
    entries = {"model.layers.1.mlp": "cuda:0", "model.layers.1.scale": "cuda:0", "head": "cuda:1"}
    about = subject(entries)
    for name, is_stray in (("model.layers.1.scale", True), ("model.layers.1.mlp.bias", False)):
        met = event("head", FAR, operand("cuda:0", name))
        found = stray_operand(met, about)
        assert (found is not None) is is_stray
        assert found is None or found.name == name
    # The first of several, named ones only.
    two = [operand("cuda:0", name) for name in ("one", "two")]
    assert stray_operand(event("head", operand("cuda:0"), *two), about).name == "one"
    assert stray_operand(event("head", FAR, NEAR), about) is None


def test_odd_is_what_lies_elsewhere_than_the_code_runs():
    about = subject(EVEN)
    for module, odd in (("model", (FAR,)), ("model.layers.1.mlp", (NEAR,)), ("head", (FAR,))):
        assert odd_operands(event(module, NEAR, FAR), about) == odd
    # Where all lie there, or none does, all are.
    assert odd_operands(event("model", NEAR, NEAR), about) == (NEAR, NEAR)
    far = (operand("cuda:1"), operand("cuda:2"))
    assert odd_operands(event("model", *far), about) == far


def test_a_mixture_names_the_tensors_by_device():
    third = replace(FAR, argument="other")
    named = operand("cuda:0", "model.norm.weight")
    assert mixture([NEAR, third, named]) == (
        "self, model.norm.weight on cuda:0 and other on cuda:1"
    )


# ---------------------------------------------------------------------------------------- groups


def test_what_is_alike_in_op_message_and_line_is_one_group():
    first = replace(event("model.layers.1", NEAR, FAR), source=line(1))
    again = replace(first, module="model.layers.2", phase="decode 1", count=3)
    others = [
        replace(first, source=line(2)),
        replace(first, op="aten.mul.Tensor"),
        replace(first, message="else"),
    ]
    meta = event("model", operand("meta"))
    about = replace(subject(EVEN), runs=(run(first, others[0], meta), run(again, *others[1:])))
    group, *rest = mismatch_groups(about, MismatchKind.MISMATCH)
    assert group.first is first and group.count == 4
    assert group.modules == ("model.layers.1", "model.layers.2")
    assert group.phases == ("prefill", "decode 1")
    assert [each.first for each in rest] == others
    assert [each.first for each in mismatch_groups(about, MismatchKind.OFFLOADED)] == [meta]
    # Without a line the module tells them apart.
    nowhere = replace(first, source=None)
    about = replace(subject(EVEN), runs=(run(nowhere, replace(nowhere, module="model")),))
    assert len(mismatch_groups(about, MismatchKind.MISMATCH)) == 2


def test_groups_with_one_cause_are_one_mistake_at_the_place_of_the_first():
    events = [replace(event("model", NEAR, FAR), source=line(n), count=n) for n in (1, 2, 3, 4)]
    events[2] = replace(events[2], source=None, module="head", phase="decode 1")
    groups = mismatch_groups(replace(subject(EVEN), runs=(run(*events),)), MismatchKind.MISMATCH)
    assert [group.count for group in groups] == [1, 2, 3, 4]
    alone = one_mistake(groups, lambda group: None)
    assert alone == groups
    one, other = one_mistake(groups, lambda group: group.count != 2)
    assert one.first is events[0] and one.count == 1 + 3 + 4
    assert one.modules == ("model", "head") and one.phases == ("prefill", "decode 1")
    # Its own line is not told again, nor is one that is not known.
    assert one.also_at == (line(4),) and other.also_at == ()
    # A cause may be any value, also one that counts as false.
    (whole,) = one_mistake(groups, lambda group: ())
    assert whole.count == 10 and whole.also_at == (line(2), line(4))
    mixed = one_mistake(groups, lambda group: None if group.count < 3 else 0)
    assert [group.count for group in mixed] == [1, 2, 7]


# ---------------------------------------------------------------------------------- split layers


SPLIT = {**EVEN, "model.layers.0.mlp": "cuda:1", "model.layers.2.mlp": "cuda:0"}


@pytest.mark.parametrize(
    ("met", "executed", "broke"),
    [
        ((), (), None),
        ((), ("head",), None),
        ((), ("model.layers.0.mlp",), False),
        ((), ("model",), False),
        (("model.layers.0.attn.q",), ("model.layers.0",), True),
        (("model.layers.0",), ("model.layers.0",), True),
        # of layers that are alike one is run
        (("model.layers.2.mlp",), ("model.layers.0",), True),
        # a layer that is whole, and another part of the model
        (("model.layers.1.mlp",), ("model.layers.0",), False),
        (("model.norm",), ("model.layers.0",), False),
    ],
)
def test_whether_a_split_layer_broke(met, executed, broke):
    events = [event(module, NEAR, FAR) for module in met]
    about = replace(subject(SPLIT), runs=(run(), run(*events, executed=executed)))
    assert STRUCTURE.modules["model.layers.0"] == "Layer"
    assert broke_inside("model.layers.0", about) is broke
