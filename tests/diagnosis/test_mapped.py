"""A pasted failure with its map: the entry, the modules, and devplan's own check."""

from __future__ import annotations

import re
import traceback
from dataclasses import replace

import pytest
import yaml

from devplan.core.device_map import device_map_of
from devplan.core.errors import InputError
from devplan.core.workload import Workload
from devplan.diagnosis.from_exception import report_of
from devplan.diagnosis.from_text import explain_text
from devplan.diagnosis.lines import code_place, modules_of
from devplan.diagnosis.pasted.errors import PastedFrame
from devplan.diagnosis.watching import diagnose
from devplan.machine.parse import parse_gpus
from tests.checks.case import model_name
from tests.diagnosis.models import SPLIT_LAYER, prompt, split_biogpt, tiny_llama

TWO = "Expected all tensors to be on the same device, but found at least two devices, {} and {}!"
BIOGPT, LLAMA = model_name("tiny_biogpt"), model_name("tiny_llama")


@pytest.fixture(scope="module")
def pasted() -> str:
    """The traceback of a split residual, with the message that two cards give."""
    model = split_biogpt()
    with pytest.raises(RuntimeError) as caught:
        model.generate(prompt(), max_new_tokens=2)
    lines = "".join(traceback.format_tb(caught.value.__traceback__)).splitlines()
    last = max(i for i, line in enumerate(lines) if "modeling_biogpt" in line)
    kept = "\n".join(lines[: last + 3])
    words = TWO.format("cuda:0", "cuda:1")
    return f"Traceback (most recent call last):\n{kept}\nRuntimeError: {words}\n"


def test_the_check_finds_the_same_line(pasted):
    (report,) = explain_text(pasted, SPLIT_LAYER, BIOGPT).reports
    confirmed = report.confirmation
    assert confirmed.ran and confirmed.finding.code == "DP301"
    assert confirmed.finding.source == report.source
    assert confirmed.detail.startswith("finds the same line, transformers/models/biogpt/")
    assert (report.module, report.module_class) == ("biogpt.layers.1", "BioGptDecoderLayer")
    entry = report.entry
    assert (entry.key, entry.file, entry.line) == ("biogpt.layers.1.fc1", SPLIT_LAYER.as_posix(), 6)
    assert report.fixes[0].changed_entries == confirmed.finding.fix.changed_entries
    assert report.rule == "DP301"


def test_the_same_line_of_another_release_is_found_by_its_text(pasted):
    moved = re.sub(
        r'(modeling_biogpt\.py", line )(\d+)', lambda m: m[1] + str(int(m[2]) + 40), pasted
    )
    (report,) = explain_text(moved, SPLIT_LAYER, BIOGPT).reports
    assert report.confirmation.detail.startswith("finds the same code")
    assert any("another release" in note for note in report.notes)


def test_a_clean_map_does_not_have_the_line(pasted):
    entries = yaml.safe_load(SPLIT_LAYER.read_text())
    whole = {key: card for key, card in entries.items() if ".layers.1." not in key}
    clean = device_map_of({**whole, "biogpt.layers.1": 0})
    (report,) = explain_text(pasted, clean, BIOGPT).reports
    assert report.confirmation.ran and report.confirmation.finding is None
    assert "does not find this line" in report.confirmation.detail
    # Which layer it was the text does not say, and the layers have an entry each.
    assert report.module is None
    assert set(report.modules) == {f"biogpt.layers.{index}" for index in range(4)}
    assert any("which of" in note for note in report.notes)


def test_devices_of_the_message_narrow_the_modules_down(pasted):
    entries = yaml.safe_load(SPLIT_LAYER.read_text())
    whole = {key: card for key, card in entries.items() if ".layers.1." not in key}
    clean = device_map_of({**whole, "biogpt.layers.1": 0})
    text = pasted.replace(
        TWO.format("cuda:0", "cuda:1"),
        "CUDA out of memory. Tried to allocate 2.00 GiB (GPU 1; 23.00 GiB total capacity)",
    )
    (report,) = explain_text(text, clean, BIOGPT).reports
    assert report.modules == ("biogpt.layers.2", "biogpt.layers.3")


@pytest.mark.parametrize(
    "entries, text, code, key",
    [
        (
            {"model": 0, "model.visual": 1, "lm_head": 0},
            "UserWarning: The following device_map keys do not match any submodules in the model: "
            "['model.visual']",
            "DP002",
            "model.visual",
        ),
        (
            {"model": 0, "model.layers": 1},
            "ValueError: lm_head.weight doesn't have any device set.",
            "DP001",
            None,
        ),
        (
            {"model": 0, "lm_head": "'0'"},
            "RuntimeError: Invalid device string: '0'",
            "DP003",
            "lm_head",
        ),
    ],
)
def test_a_rule_confirms_what_has_no_line(tmp_path, entries, text, code, key):
    path = tmp_path / "map.yaml"
    path.write_text("".join(f"{name}: {card}\n" for name, card in entries.items()))
    (report,) = explain_text(text, path, LLAMA).reports
    assert report.rule == code
    assert report.confirmation.finding.code == code
    assert (report.entry.key if report.entry else None) == key


def test_a_map_without_a_model_is_refused(pasted):
    with pytest.raises(InputError, match="does not name its model; give --model"):
        explain_text(pasted, SPLIT_LAYER)


def test_nothing_is_built_where_nothing_is_recognised():
    assert explain_text("all is well", "absent.yaml").reports == ()


def test_frames_around_narrow_the_modules_down():
    model = tiny_llama()
    file = "/x/site-packages/transformers/models/llama/modeling_llama.py"
    layer = PastedFrame(file=file, line=1, function="forward", class_name="LlamaDecoderLayer")
    norm = PastedFrame(file=file, line=1, function="forward", class_name="LlamaRMSNorm")
    within = [
        f"model.layers.{i}.{n}"
        for i in range(4)
        for n in ("input_layernorm", "post_attention_layernorm")
    ]
    assert sorted(modules_of([code_place(layer), code_place(norm)], model)) == sorted(within)
    assert "model.norm" in modules_of([code_place(norm)], model)
    assert modules_of([], model) == ()


def test_pasted_and_live_reports_say_the_same(pasted):
    model = split_biogpt()
    with pytest.raises(RuntimeError) as caught, diagnose(model):
        model.generate(prompt(), max_new_tokens=2)
    live = report_of(caught.value)
    (told,) = explain_text(pasted, SPLIT_LAYER, BIOGPT).reports
    for name in ("kind", "op", "module", "module_class", "source", "rule"):
        assert getattr(told, name) == getattr(live, name), name
    assert told.entry.key == live.entry.key


def test_the_patch_is_not_proposed_where_the_embedding_is_at_home(pasted):
    text = "indices should be either on cpu or on the same device as the indexed tensor (cuda:0)"
    bare = [fix.command for fix in explain_text(text).reports[0].fixes]
    assert "devplan.patch_embeddings(model)" in bare
    (report,) = explain_text(text, SPLIT_LAYER, BIOGPT).reports
    assert "devplan.patch_embeddings(model)" not in [r.command for r in report.fixes]


def test_the_map_of_another_model_is_said(pasted):
    (report,) = explain_text(pasted, device_map_of({"": 0}), LLAMA).reports
    assert "LlamaForCausalLM has no module of class BioGptDecoderLayer: is it the map of this " in (
        " ".join(report.notes)
    )


def test_commands_keep_what_the_map_was_planned_with():
    """Cards by their names in the catalogue, offload and images; sizes where no name is known."""
    given = device_map_of({"": 0})
    machine = parse_gpus("2xa100-80gb,rtx-4090,10GiB", offload=("cpu=64GiB", "disk"))
    planned = replace(given, machine=machine, workload=Workload(context=64, images=3))
    text = f"RuntimeError: {TWO.format('cuda:0', 'cuda:1')}"
    (report,) = explain_text(text, planned, LLAMA).reports
    commands = [fix.command for fix in report.fixes]
    suggest = next(each for each in commands if each.startswith("devplan suggest "))
    assert "--gpus 2xa100-80gb,rtx-4090,10GiB " in suggest
    assert suggest.endswith("--images 3 --offload cpu=64GiB --offload disk")
    check = next(each for each in commands if each.startswith("devplan check "))
    assert "--images 3" in check
    bare = explain_text(text, given, LLAMA).reports[0].fixes
    assert not [each for each in bare if "--offload" in each.command or "--images" in each.command]
