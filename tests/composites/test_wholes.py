"""With the inputs of docs/examples/inputs/whole_models.py all parts run, and the map is clean."""

from __future__ import annotations

from pathlib import Path

import pytest

import devplan
from devplan.checker.run_options import RunOptions
from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.mapfile.write import write_map
from devplan.workflows.suggesting import suggest
from tests.composites.models import Composite, save_config

INPUTS = Path(__file__).parents[2] / "docs" / "examples" / "inputs" / "whole_models.py"


def suggested(folder: str, gpus: str, inputs: str | None):
    request = Workload(dtype="bfloat16", context=512)
    found = suggest(folder, parse_gpus(gpus, reserve="0"), request, inputs=inputs)
    assert found.map_file.verification.status == "clean", found.map_file.verification
    return found


def missed(result) -> str:
    return " ".join(each.message for each in result.findings if each.code == "DP902")


@pytest.mark.slow
@pytest.mark.parametrize(
    "model_type, class_name, gpus, function, reached, not_reached",
    [
        # Text alone: the towers of the thinker run with devplan's own inputs.
        ("qwen2_5_omni", None, "3x12GiB", "spoken", "token2wav", "thinker.model.visual"),
        ("seamless_m4t_v2", "SeamlessM4Tv2Model", "3x2GiB", "translated", "", "speech_encoder"),
        ("bark", None, "3x384MiB", "sound", "fine_acoustics prefill", "codec_model.encoder"),
    ],
)
def test_the_parts_that_follow_run(
    model_type, class_name, gpus, function, reached, not_reached, tmp_path
):
    row = Composite(model_type=model_type, class_name=class_name)
    folder = save_config(row, tmp_path / "model")
    inputs = f"{INPUTS}:{function}"
    found = suggested(folder, gpus, inputs)
    assert reached in found.map_file.verification.detail
    assert len(set(found.result.placement.values())) > 1
    write_map(found.map_file, tmp_path / "map.yaml")
    result = devplan.check(folder, str(tmp_path / "map.yaml"), options=RunOptions(inputs=inputs))
    assert [each.message for each in result.errors] == []
    assert not_reached in missed(result)


@pytest.mark.slow
def test_what_was_said_to_be_unverified_was_worth_saying(tmp_path):
    """Bark's codec is called by a method, which no hook follows: planned by size it is torn."""
    folder = save_config(Composite(model_type="bark"), tmp_path / "model")
    found = suggested(folder, "3x373MiB", None)
    write_map(found.map_file, tmp_path / "map.yaml")
    path = str(tmp_path / "map.yaml")
    assert missed(devplan.check(folder, path)).startswith("coarse_acoustics")
    whole = devplan.check(folder, path, options=RunOptions(inputs=f"{INPUTS}:sound"))
    assert {each.module for each in whole.errors if each.code == "DP301"} >= {
        "codec_model.quantizer"
    }
