"""Folding changes how long a split run takes, never what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devplan.findings import RunRecord
from devplan.virtual.split import run_split
from tests.virtual import tiny


def told(record: RunRecord) -> dict:
    """All that a user is told; the number of ops says what it cost."""
    return vars(replace(record, num_ops=0))


def runs(model_type: str, generate: bool) -> tuple[RunRecord, RunRecord]:
    """The run with folding, and in full."""
    model, inputs = tiny.meta_model(model_type), tiny.abstract_inputs(model_type)
    if generate:
        inputs = tiny.for_generate(inputs)
    split = tiny.split_of(model)
    folded, full = (
        run_split(split, inputs, described="", generate=generate, fold=fold)
        for fold in (True, False)
    )
    return folded, full


@pytest.mark.parametrize("model_type", tiny.cases(tiny.CASES))
def test_forward(model_type):
    folded, full = runs(model_type, generate=False)
    assert told(folded) == told(full)
    assert folded.num_ops <= full.num_ops


@pytest.mark.parametrize(
    "model_type",
    tiny.cases(name for name in tiny.CASES if tiny.generates(tiny.model_class(name))),
)
def test_generate(model_type):
    folded, full = runs(model_type, generate=True)
    assert told(folded) == told(full)


def test_most_models_are_folded():
    fewer = [name for name in ("llama", "bert", "t5", "qwen2_vl", "vit") if _saves_ops(name)]
    assert len(fewer) >= 4


def _saves_ops(model_type: str) -> bool:
    folded, full = runs(model_type, generate=False)
    return folded.num_ops < full.num_ops
