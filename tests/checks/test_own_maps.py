"""What `devplan suggest` writes, the check does not complain about."""

from __future__ import annotations

import pytest

from devplan.checks.static import check_structure
from devplan.machine import parse_gpus
from devplan.suggesting import suggest
from devplan.workload import WorkloadRequest
from tests.checks.case import HERE, model_name

MODELS = sorted(folder.name for folder in (HERE / "models").iterdir())

NOT_RUN = "DP901"
"""What the structure alone is always told."""


@pytest.mark.parametrize("objective", ["balance", "fewest"])
@pytest.mark.parametrize("model", MODELS)
def test_suggested_map_is_clean(model, objective):
    machine = parse_gpus("640MiB,512MiB", reserve="64MiB")
    suggestion = suggest(model_name(model), machine, WorkloadRequest(), objective=objective)
    result = check_structure(suggestion.source.id, suggestion.map_file)
    found = [d for d in (*result.errors, *result.warnings) if d.code != NOT_RUN]
    assert [(d.code, d.message) for d in found] == []
