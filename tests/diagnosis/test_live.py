"""Reports of real failures: real hooks, real op, real exception."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

import devplan
from devplan.checker.checking import check
from devplan.core.errors import InputError
from devplan.diagnosis.document import JsonFormatter
from devplan.diagnosis.failure_report import FailureKind
from devplan.diagnosis.from_exception import report_of
from devplan.diagnosis.watching import diagnose
from tests.checks.case import model_name
from tests.diagnosis.models import (
    SPLIT_LAYER,
    Fills,
    cpu_map,
    masks_with_embedding_away,
    prompt,
    split_biogpt,
    tiny_llama,
    without_norm,
)


def failure(call, model, map=None) -> Exception:
    with pytest.raises(Exception) as caught, diagnose(model, map):
        call()
    return caught.value


def test_a_split_residual_is_told_with_its_entry_and_repair():
    model = split_biogpt()
    error = failure(lambda: model.generate(prompt(), max_new_tokens=2), model)
    report = report_of(error)
    assert (report.kind, report.rule, report.op) == (FailureKind.MISMATCH, "DP301", "aten.add")
    assert (report.module, report.module_class) == ("biogpt.layers.1", "BioGptDecoderLayer")
    assert report.source.file == "transformers/models/biogpt/modeling_biogpt.py"
    assert report.source.text == "hidden_states = residual + hidden_states"
    facts = {tensor.argument: (tensor.device, tensor.shape) for tensor in report.tensors}
    assert facts == {"residual": ("cpu", (1, 7, 32)), "hidden_states": ("meta", (1, 7, 32))}
    assert report.entry.key == "biogpt.layers.1.fc1"
    assert set(report.fixes[0].changed_entries.values()) == {"cpu"}


def test_the_live_report_and_the_check_agree():
    """The same map, once with real tensors and once on cards that are not there."""
    model = split_biogpt()
    report = report_of(failure(lambda: model.generate(prompt(), max_new_tokens=2), model))
    found = check(model_name("tiny_biogpt"), SPLIT_LAYER)
    finding = next(each for each in found.findings if each.code == report.rule)
    assert finding.source == report.source
    assert finding.module == report.module
    assert finding.op.startswith(report.op)
    assert finding.entry.key == report.entry.key
    assert set(finding.fix.changed_entries) == set(report.fixes[0].changed_entries)


def test_the_repair_that_is_told_repairs():
    from accelerate import dispatch_model
    from accelerate.hooks import remove_hook_from_module

    model = split_biogpt()
    report = report_of(failure(lambda: model(input_ids=prompt()), model))
    places = {**model.hf_device_map, **report.fixes[0].changed_entries}
    remove_hook_from_module(model, recurse=True)
    torch.manual_seed(0)
    whole = type(model)(model.config).eval().float()
    dispatch_model(whole, places, main_device="cpu", force_hooks=True)
    error = failure(lambda: whole(input_ids=prompt()), whole)
    assert report_of(error).module != report.module  # it gets on to what is still on meta


def test_an_embedding_away_is_cured_by_its_entry_or_by_the_patch():
    model = masks_with_embedding_away()
    report = report_of(failure(lambda: model(prompt().clamp(max=7)), model))
    assert (report.module, report.source.text) == ("", "hidden = hidden.sigmoid() + keep")
    assert [tensor.argument for tensor in report.tensors] == ["hidden", "keep"]
    assert report.fixes[0].changed_entries == {"embed": "cpu"}
    assert report.fixes[1].command == "devplan.patch_embeddings(model)"
    assert report.entry.key == "embed"


def test_a_parameter_is_named():
    model = without_norm(tiny_llama())
    report = report_of(failure(lambda: model(input_ids=prompt()), model))
    named = {tensor.argument: tensor.name for tensor in report.tensors}
    assert named["self.weight"] == "model.layers.2.input_layernorm.weight"


def test_a_map_file_gives_file_and_line(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("".join(f"{name}: {device}\n" for name, device in cpu_map().items()))
    model = without_norm(tiny_llama())
    error = failure(lambda: model(input_ids=prompt()), model, path)
    entry = report_of(error).entry
    assert (entry.key, entry.file, entry.line) == ("model.layers.2", path.as_posix(), 5)
    assert f"{path.as_posix()}:5: model.layers.2: cpu" in error.__notes__[0]


def test_a_map_that_is_not_there_is_said_before_anything_runs():
    with pytest.raises(InputError, match=r"there is no map none\.yaml; check the path"):
        diagnose(tiny_llama(), "none.yaml")


def test_a_map_that_cannot_be_read_is_a_note_of_the_report(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("- no map\n")
    model = without_norm(tiny_llama())
    report = report_of(failure(lambda: model(input_ids=prompt()), model, path))
    assert report.module == "model.layers.2.input_layernorm"
    assert "holds no device map" in report.notes[0]


def test_a_model_without_a_map_is_explained_too():
    model = without_norm(tiny_llama())
    del model.hf_device_map
    report = report_of(failure(lambda: model(input_ids=prompt()), model))
    assert (report.module, report.entry) == ("model.layers.2.input_layernorm", None)


def test_lack_of_memory_for_real():
    model = Fills()
    error = failure(lambda: model(torch.ones(3)), model)
    report = report_of(error)
    assert (type(error), report.kind) == (RuntimeError, FailureKind.MEMORY)
    assert report.requested_bytes == 4 * 10**15
    assert report.source.text == "return x * torch.empty(10**15)"
    assert "3637.98 TiB" in report.meaning or str(4 * 10**15) in report.meaning


def test_lack_of_memory_on_a_card_beside_what_the_map_predicted():
    maps = Path(__file__).parents[2] / "maps"
    source = next(maps.glob("qwen2.5-vl-7b-instruct__24+12gib__*.yaml"))
    words = (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has a total capacity of 11.90 GiB"
    )
    given = torch.OutOfMemoryError(f"{words} of which 0.50 GiB is free.")
    model = Fills(given)
    error = failure(lambda: model(torch.ones(3)), model, source)
    report = report_of(error)
    assert error is given and report.devices == ("cuda:1",)
    cards = {card.device: card.predicted_bytes for card in report.cards}
    assert set(cards) >= {"cuda:0", "cuda:1"} and all(cards[each] > 2**30 for each in cards)
    commands = [fix.command for fix in report.fixes]
    assert commands[0].startswith(
        "devplan suggest Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB --batch 1 --context 32768"
    )
    assert "predicted" in error.__notes__[0]


def test_the_call_that_was_too_large_is_what_is_planned_for():
    model = Fills(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))

    def call(input_ids):
        return model(input_ids)

    report = report_of(failure(lambda: call(input_ids=torch.ones(4, 900).long()), model))
    assert (report.workload.batch, report.workload.tokens) == (4, 900)
    assert "--batch 4 --context 900" in report.fixes[0].command


def test_a_pipeline_of_models():
    class Pipeline:
        def __init__(self):
            self.unet = without_norm(tiny_llama())
            self.vae = tiny_llama()
            self.name = "x"

    pipeline = Pipeline()
    report = report_of(failure(lambda: pipeline.unet(input_ids=prompt()), pipeline))
    assert report.module == "model.layers.2.input_layernorm"
    assert report.entry.key == "model.layers.2"
    assert report.notes == ("the model is unet of Pipeline",)


def test_an_error_outside_the_model_is_told_without_a_module():
    model = tiny_llama()
    error = failure(lambda: torch.ones(2) + torch.ones(2, device="meta"), model)
    report = report_of(error)
    assert (report.kind, report.module) == (FailureKind.MISMATCH, None)
    assert "device mismatch\n" in error.__notes__[0]


def test_the_log_has_a_record_with_fields(caplog):
    model = without_norm(tiny_llama())
    with caplog.at_level(logging.ERROR, logger="devplan"):
        failure(lambda: model(input_ids=prompt()), model)
    (record,) = [each for each in caplog.records if each.name == "devplan"]
    assert record.getMessage().startswith("device mismatch in model.layers.2.input_layernorm")
    assert record.levelno == logging.ERROR
    line = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["logger"]) == ("ERROR", "devplan")
    assert line["devplan"]["module"] == "model.layers.2.input_layernorm"
    assert line["devplan"]["tensors"][0]["bytes"] == 128


def test_json_of_other_records():
    record = logging.LogRecord("devplan.x", logging.INFO, "f", 1, "a %s", ("b",), None)
    line = json.loads(JsonFormatter().format(record))
    assert (line["message"], "devplan" in line) == ("a b", False)
    try:
        raise ValueError("no")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    assert "ValueError: no" in json.loads(JsonFormatter().format(record))["exception"]


def test_public_name():
    assert devplan.diagnose is diagnose
