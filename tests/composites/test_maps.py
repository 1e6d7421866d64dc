"""Each model of several parts: suggested over three cards, checked, with what was not run said."""

from __future__ import annotations

import pytest

import devplan
from devplan.core.types import Plan
from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.mapfile.write import write_map
from devplan.models.build import build_skeleton
from devplan.models.resolution import resolve
from devplan.workflows.suggesting import suggest
from tests.composites.models import COMPOSITES, Composite, save_config

CARDS = 3
SHARE_OF_A_CARD = 0.45
"""Of the weights: with three such cards something has to be parted, and little is left over."""
LEAST_BYTES = 2**28
"""The smallest card that devplan takes."""
ROOM_BYTES = 60 * 2**20


def _rows() -> list:
    return [
        pytest.param(row, id=row.id, marks=() if row.in_time else pytest.mark.slow)
        for row in COMPOSITES
    ]


def _suggested(folder: str, row: Composite):
    """On the smallest of four sizes of card on which it fits."""
    model = build_skeleton(resolve(folder), "bfloat16").model
    weights = sum(each.numel() * each.element_size() for each in model.parameters())
    request = Workload(dtype="bfloat16", context=row.context)
    for room in (ROOM_BYTES, 4 * ROOM_BYTES, 16 * ROOM_BYTES, 64 * ROOM_BYTES):
        capacity = max(int(weights * SHARE_OF_A_CARD) + room, LEAST_BYTES) // 2**20
        found = suggest(folder, parse_gpus(f"{CARDS}x{capacity}MiB", reserve="0"), request)
        if isinstance(found.result, Plan):
            return found
    raise AssertionError(found.result)


@pytest.mark.parametrize("row", _rows())
def test_from_suggest_to_a_clean_check(row, tmp_path):
    folder = save_config(row, tmp_path / "model")
    found = _suggested(folder, row)
    assert found.map_file.verification.status == "clean", found.map_file.verification
    assert f"ran {row.ran} at" in found.map_file.verification.detail
    assert len(set(found.result.placement.values())) > 1
    write_map(found.map_file, tmp_path / "map.yaml")
    result = devplan.check(folder, str(tmp_path / "map.yaml"))
    assert [each.message for each in result.errors] == []
    said = " ".join(each.message for each in result.findings if each.code == "DP902")
    assert bool(said) is bool(row.not_run), said
    for module in row.not_run:
        assert module in said
