"""Folding changes how long a split run takes, never what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devplan.findings import RunRecord
from devplan.virtual.calls import ForwardCall, GenerateCall
from devplan.virtual.split import run_split
from tests.virtual import tiny

PEAK_DIFFERS = {
    "mamba": "a folded layer keeps 512 bytes too many (0.11 % of the peak); cause unknown",
    "falcon_mamba": "as mamba",
    "t5": "a folded decoder layer keeps 2,048 bytes too many (1.1 %); cause unknown",
    "mt5": "as t5",
    "longt5": "as t5",
    "rt_detr": "0.9 % too high; cause unknown",
}
"""Known misses: peaks here are up to 1.2 % too high when folded, never too low."""


def told(record: RunRecord, model_type: str) -> dict:
    """All that a user is told; the number of ops says what it cost."""
    peaks = () if model_type in PEAK_DIFFERS else record.peaks
    return vars(replace(record, num_ops=0, peaks=peaks))


def assert_same(model_type: str, folded: RunRecord, full: RunRecord) -> None:
    assert told(folded, model_type) == told(full, model_type)
    for ours, theirs in zip(folded.peaks, full.peaks, strict=True):
        assert ours.peak_bytes == pytest.approx(theirs.peak_bytes, rel=0.012)


def runs(model_type: str, generate: bool) -> tuple[RunRecord, RunRecord]:
    """The run with folding, and in full."""
    model, inputs = tiny.meta_model(model_type), tiny.abstract_inputs(model_type)
    if generate:
        inputs = tiny.for_generate(inputs)
    split, call = tiny.split_of(model), GenerateCall() if generate else ForwardCall()
    folded, full = (
        run_split(split, inputs, described="", call=call, fold=fold) for fold in (True, False)
    )
    return folded, full


@pytest.mark.parametrize("model_type", tiny.cases(tiny.CASES))
def test_forward(model_type):
    folded, full = runs(model_type, generate=False)
    assert_same(model_type, folded, full)
    assert folded.num_ops <= full.num_ops


@pytest.mark.parametrize(
    "model_type",
    tiny.cases(name for name in tiny.CASES if tiny.generates(tiny.model_class(name))),
)
def test_generate(model_type):
    folded, full = runs(model_type, generate=True)
    assert_same(model_type, folded, full)


def test_most_models_are_folded():
    fewer = [name for name in ("llama", "bert", "t5", "qwen2_vl", "vit") if _saves_ops(name)]
    assert len(fewer) >= 4


def _saves_ops(model_type: str) -> bool:
    folded, full = runs(model_type, generate=False)
    return folded.num_ops < full.num_ops
