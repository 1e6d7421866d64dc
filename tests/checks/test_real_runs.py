"""A mismatch that the model's own code makes, and the repair that the finding names."""

from __future__ import annotations

from devplan.checking import check
from devplan.checks.given import given_map
from devplan.findings import Severity
from tests.checks.case import HERE, model_name

SPLIT_LAYER = HERE / "cases" / "DP202_split_layer" / "map.yaml"


def test_split_layer_is_run_and_repaired():
    model = model_name("tiny_biogpt")
    found = check(model, SPLIT_LAYER)
    mismatch = next(d for d in found.diagnostics if d.code == "DP301")
    assert mismatch.module == "biogpt.layers.1"
    assert mismatch.op == "aten.add.Tensor"
    assert mismatch.source.file == "transformers/models/biogpt/modeling_biogpt.py"
    assert "residual" in mismatch.source.text
    assert (mismatch.entry.key, mismatch.entry.line) == ("biogpt.layers.1.fc1", 6)
    assert "found at least two devices, cuda:0 and cuda:1" in mismatch.pytorch_message

    devices = {entry.key: entry.device for entry in found.entries}
    repaired = check(model, given_map({**devices, **mismatch.changed_entries}))
    assert [d.code for d in repaired.diagnostics if d.severity is not Severity.NOTE] == []
    assert repaired.runs[0].phases == found.runs[0].phases
