"""What runs under the labels of two virtual cards is what plain PyTorch computes, to the bit.

Every tensor of the output is compared, caches and logits of each generated token among them.  One
difference is transformers' own: on a GPU ``generate`` takes another kernel for experts
in its decode steps (``batched_mm`` for ``grouped_mm``), whose sums differ in the last bit; the
experts are computed one after the other in both runs of ``generate`` here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from devplan.core.findings import RunRecord
from devplan.virtual.calls import ForwardCall, GenerateCall
from devplan.virtual.memory import cache_places
from devplan.virtual.run import run_split
from tests.virtual import tiny

NO_GENERATE = {
    "switch_transformers": "generate asks the cache for layer 0, which has no layers yet",
}
"""Types whose ``generate`` fails in plain PyTorch already, on transformers 5.23."""


def tensors_of(output: Any) -> list[torch.Tensor]:
    plain = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]
    return plain + [tensor for _, tensor in cache_places(output)]


def run_plain(model: nn.Module, inputs: Mapping[str, Any], generate: bool) -> list[torch.Tensor]:
    with torch.no_grad():
        return tensors_of((GenerateCall() if generate else ForwardCall()).run(model, inputs))


def run_virtually(
    model: nn.Module, inputs: Mapping[str, Any], generate: bool
) -> tuple[RunRecord, list[torch.Tensor]]:
    given: list[torch.Tensor] = []
    record = run_split(
        tiny.split_of(model),
        inputs,
        described="",
        call=GenerateCall() if generate else ForwardCall(),
        fold=False,
        on_output=lambda output: given.extend(tensors_of(output)),
    )
    return record, given


def compare(model: nn.Module, inputs: Mapping[str, Any], generate: bool) -> None:
    expected = run_plain(model, inputs, generate)
    record, given = run_virtually(model, inputs, generate)
    assert record.error is None and record.made_up == ()
    used = {peak.device for peak in record.peaks if peak.peak_bytes}
    assert {"cuda:0", "cuda:1"} <= used and record.transfers
    assert not any(tensor.is_meta for tensor in given)
    assert expected and len(given) == len(expected)
    assert any(tensor.float().std() > 0 for tensor in expected)
    for ours, theirs in zip(given, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("model_type", tiny.cases(tiny.CASES))
def test_forward(model_type):
    compare(tiny.real_model(model_type), tiny.real_inputs(model_type), generate=False)


@pytest.mark.parametrize(
    "model_type", tiny.cases(name for name in tiny.CASES if name not in NO_GENERATE)
)
def test_generate(model_type):
    model = tiny.real_model(model_type)
    if not tiny.generates(model):
        pytest.skip("generates nothing")
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    model.generation_config.return_dict_in_generate = True
    model.generation_config.output_logits = True
    inputs = tiny.for_generate(tiny.real_inputs(model_type))
    compare(model, inputs, generate=True)


def test_sixty_types_of_all_kinds():
    assert len(tiny.CASES) >= 60
    assert all(len(types) > 0 for types in tiny.TINY.values())


def test_a_difference_would_be_seen():
    model, inputs = tiny.real_model("llama"), tiny.real_inputs("llama")
    expected = run_plain(model, inputs, generate=False)
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1e-3
    _, given = run_virtually(model, inputs, generate=False)
    same = [torch.equal(*pair) for pair in zip(given, expected, strict=True)]
    assert same.count(False) == 1
