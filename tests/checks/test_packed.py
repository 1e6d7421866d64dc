"""Weights counted packed: a map says so, and whoever reads it follows."""

from __future__ import annotations

import logging

import pytest
import transformers
import yaml

import devplan
from devplan.checker.checking import check
from devplan.core.errors import DeviceMapError, DevplanError
from devplan.core.findings import Severity
from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.mapfile.default_name import default_path
from devplan.mapfile.read import loads_map, read_map
from devplan.mapfile.write import dump_map
from devplan.workflows.map_diff import diff
from devplan.workflows.suggesting import suggest
from tests.checks.case import HERE

MODEL = str(HERE / "models" / "tiny_llama_int4")
MAP = HERE / "maps" / "tiny_llama_int4.yaml"
CARDS = parse_gpus("2x256MiB")
FEW = Workload(context=256)
pytestmark = pytest.mark.skipif(
    int(transformers.__version__.split(".")[0]) < 5, reason="transformers 4 keeps them packed"
)


def codes(result) -> list[str]:
    return [each.code for each in result.errors]


def test_a_map_of_packed_weights_says_so_and_is_checked_so():
    suggestion = suggest(MODEL, CARDS, FEW, packed=True)
    assert suggestion.map_file.model.packed
    assert "\n  weights: packed\n" in dump_map(suggestion.map_file)
    found = check(MODEL, suggestion.map_file)
    assert found.is_clean
    note = next(each for each in found.findings if each.code == "DP514")
    assert note.severity is Severity.NOTE
    # Counted as transformers has them, the same cards are too small.
    assert suggest(MODEL, CARDS, FEW).map_file is None


def test_it_is_read_back_and_says_when_its_lines_hold():
    text = MAP.read_text(encoding="utf-8")
    assert read_map(MAP).model.packed
    assert "where its weights stay packed (DP514):" in text
    assert not loads_map(text.replace("  weights: packed\n", ""), "map.yaml").model.packed


def test_a_bare_map_counts_them_packed_where_it_is_told_to():
    entries = yaml.safe_load(MAP.read_text(encoding="utf-8"))["device_map"]
    asked = {"machine": CARDS, "workload": FEW}
    assert codes(check(MODEL, entries, **asked)) == ["DP101", "DP101"]
    assert check(MODEL, entries, packed=True, **asked).is_clean


def test_the_command_line_takes_both(capsys, monkeypatch, tmp_path):
    from devplan.cli.app import main

    monkeypatch.chdir(HERE / "models")
    assert main(["check", str(MAP)]) == 0
    bare = tmp_path / "bare.yaml"
    entries = yaml.safe_load(MAP.read_text(encoding="utf-8"))["device_map"]
    bare.write_text(yaml.safe_dump(entries), encoding="utf-8")
    command = ["check", str(bare), "--model", MODEL, "--gpus", "2x256MiB", "--context", "256"]
    assert main(command) == 1
    assert main([*command, "--packed"]) == 0


def test_the_command_of_fit_plans_what_fit_counted(capsys):
    from devplan.cli.app import main

    command = ["fit", MODEL, "--gpus", "2x256MiB", "--context", "256", "--packed", "--no-verify"]
    assert main(command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"devplan suggest {MODEL} --gpus 2x256MiB --context 256 --packed" in said


def test_a_diff_counts_both_maps_as_the_one_that_says_it():
    found = diff(MODEL, MAP, "sequential")
    assert found.before.is_clean
    assert found.identity.packed


def test_loading_by_it_is_refused_or_warned_of(monkeypatch, caplog):
    monkeypatch.chdir(HERE / "models")
    stand_ins = {"cuda:0": "cpu", "cuda:1": "cpu"}
    with pytest.raises(DeviceMapError, match=r"DP514.*unpacks them"):
        devplan.load(map=MAP, devices=stand_ins)
    # There are no weights beside the configuration: with a warning it comes as far as them.
    no_weights = pytest.raises((DevplanError, OSError), match=r"\.safetensors|no weights")
    with caplog.at_level(logging.WARNING, logger="devplan"), no_weights:
        devplan.load(map=MAP, devices=stand_ins, on_difference="warn")
    assert "DP514" in caplog.text


def test_packed_makes_no_difference_where_weights_stay_packed_anyway():
    packed = suggest("openai/gpt-oss-20b", parse_gpus("2x80GiB"), FEW, packed=True, verify=False)
    assert not packed.map_file.model.packed
    assert not any("--packed" in note for note in packed.notes)


def test_what_cards_unpack_is_counted_unpacked_by_the_check_too():
    """FP8 is unpacked on cards without FP8: check counted it as stored, and missed DP101."""
    old = parse_gpus("8xa100-80gb")
    suggestion = suggest("MiniMaxAI/MiniMax-M2", old, FEW, verify=False)
    assert suggestion.map_file is not None
    small = parse_gpus("8xa100-40gb")
    refused = check("MiniMaxAI/MiniMax-M2", suggestion.map_file.device_map, machine=small)
    assert "DP101" in codes(refused)


def test_the_name_of_the_file_tells_them_apart():
    names = [
        default_path("o/m", "8x80gib", Workload(context=4096), packed=packed)
        for packed in (False, True)
    ]
    assert [path.name.split("__")[0] for path in names] == ["m", "m-packed"]
