"""The rules against the real thing, as far as a machine without a GPU can show it.

``replay_on_meta`` asks PyTorch's own C++ about CPU operands among meta ones; the rules are asked
about the labels ``cpu`` and ``meta`` and have to foretell whether it raises, and the words.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from devplan.virtual.rules.plan import judge_op, native_facts
from tests.virtual.replay_on_meta import (
    SHAPES,
    UNANSWERED,
    elementwise_ops,
    needed,
    ordinary,
    tensor_arguments,
)
from tests.virtual.rules_bench import at
from tests.virtual.test_rules_native import is_pinned

aten = torch.ops.aten

NOT_COMPARED_ON_META = {
    # The meta kernel returns its operand and looks at nothing.
    "aten.floor_divide_.Tensor",
    "aten.__ilshift__.Tensor",
    "aten.__irshift__.Tensor",
    # Adds its parts in another order where there is an ``out``.
    "aten.soft_margin_loss.out",
}


def is_beyond_the_rules(func, label: str) -> bool:
    """A lone CPU scalar whose result is asked for on a GPU by ``out``.

    PyTorch counts the op's Python numbers as CPU scalars too and refuses; the rules do not know
    numbers.  No model does this.
    """
    inputs = [item for item in needed(func) if str(item.type) == "Tensor" and not item.is_out]
    return label == "scalar" and len(inputs) == 1


@pytest.fixture(scope="module")
def answers() -> dict:
    """What the program printed."""
    if not is_pinned():
        pytest.skip(f"the table describes torch {native_facts().torch}")
    command = [sys.executable, "-m", "tests.virtual.replay_on_meta"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=root)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def foretold(func, odd: str, shape: tuple[int, ...]) -> str | None:
    """What the rules say where `odd` lies on the CPU and the rest on meta."""
    values = {item.name: 1.0 for item in needed(func)}
    for name in tensor_arguments(func):
        tensor = ordinary(func, shape if name == odd else SHAPES["full"])
        values[name] = at("cpu" if name == odd else "meta", tensor)
    keyword = {item.name for item in needed(func) if item.kwarg_only}
    args = tuple(value for name, value in values.items() if name not in keyword)
    kwargs = {name: value for name, value in values.items() if name in keyword}
    mismatch = judge_op(func, args, kwargs).mismatch
    return mismatch and mismatch.message


def test_elementwise_ops_say_what_the_rules_foretell(answers):
    wrong, num_compared = [], 0
    for func in elementwise_ops():
        if str(func) in NOT_COMPARED_ON_META:
            continue
        for odd, by_shape in answers[str(func)].items():
            for label, text in by_shape.items():
                if text == UNANSWERED or is_beyond_the_rules(func, label):
                    continue
                num_compared += 1
                rule = foretold(func, odd, SHAPES[label])
                if rule != text:
                    wrong.append((str(func), odd, label, text, rule))
    assert wrong == []
    assert num_compared > 500


def test_reading_at_indices_of_another_device(answers):
    call = (at("cpu", torch.ones(2, 3)), [at("meta", torch.tensor([0]))])
    assert answers["cpu[meta]"] == judge_op(aten.index.Tensor, call, {}).mismatch.message
    call = (at("meta", torch.ones(2, 3)), [at("cpu", torch.tensor([0]))])
    assert answers["meta[cpu]"] == str(judge_op(aten.index.Tensor, call, {}).device)


def test_storage_of_another_device():
    with pytest.raises(RuntimeError) as raised:
        torch.zeros(2).set_(torch.zeros(2, device="meta"))
    call = (at(None, torch.zeros(2)), at("meta", torch.zeros(2)))
    foreseen = judge_op(aten.set_.source_Tensor, call, {}).mismatch.message
    assert str(raised.value).partition("\n")[0] == foreseen


def test_attention_over_two_devices():
    q = torch.zeros(1, 1, 2, 2)
    with pytest.raises(RuntimeError) as raised:
        torch.nn.functional.scaled_dot_product_attention(q, q.to("meta"), q)
    call = (at(None, q), at("meta", q), at(None, q))
    foreseen = judge_op(aten.scaled_dot_product_attention.default, call, {}).mismatch.message
    assert str(raised.value).partition("\n")[0] == foreseen
