"""Stories of real failures: real hooks, real op, real exception."""

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
from devplan.diagnosis.exception import story_of
from devplan.diagnosis.failure_report import Kind
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
    story = story_of(error)
    assert (story.kind, story.rule, story.op) == (Kind.MISMATCH, "DP301", "aten.add")
    assert (story.module, story.module_class) == ("biogpt.layers.1", "BioGptDecoderLayer")
    assert story.source.file == "transformers/models/biogpt/modeling_biogpt.py"
    assert story.source.text == "hidden_states = residual + hidden_states"
    facts = {tensor.argument: (tensor.device, tensor.shape) for tensor in story.tensors}
    assert facts == {"residual": ("cpu", (1, 7, 32)), "hidden_states": ("meta", (1, 7, 32))}
    assert story.entry.key == "biogpt.layers.1.fc1"
    assert set(story.remedies[0].changed_entries.values()) == {"cpu"}


def test_the_live_story_and_the_check_agree():
    """The same map, once with real tensors and once on cards that are not there."""
    model = split_biogpt()
    story = story_of(failure(lambda: model.generate(prompt(), max_new_tokens=2), model))
    found = check(model_name("tiny_biogpt"), SPLIT_LAYER)
    finding = next(each for each in found.findings if each.code == story.rule)
    assert finding.source == story.source
    assert finding.module == story.module
    assert finding.op.startswith(story.op)
    assert finding.entry.key == story.entry.key
    assert set(finding.fix.changed_entries) == set(story.remedies[0].changed_entries)


def test_the_repair_that_is_told_repairs():
    from accelerate import dispatch_model
    from accelerate.hooks import remove_hook_from_module

    model = split_biogpt()
    story = story_of(failure(lambda: model(input_ids=prompt()), model))
    places = {**model.hf_device_map, **story.remedies[0].changed_entries}
    remove_hook_from_module(model, recurse=True)
    torch.manual_seed(0)
    whole = type(model)(model.config).eval().float()
    dispatch_model(whole, places, main_device="cpu", force_hooks=True)
    error = failure(lambda: whole(input_ids=prompt()), whole)
    assert story_of(error).module != story.module  # it gets on to what is still on meta


def test_an_embedding_away_is_cured_by_its_entry_or_by_the_patch():
    model = masks_with_embedding_away()
    story = story_of(failure(lambda: model(prompt().clamp(max=7)), model))
    assert (story.module, story.source.text) == ("", "hidden = hidden.sigmoid() + keep")
    assert [tensor.argument for tensor in story.tensors] == ["hidden", "keep"]
    assert story.remedies[0].changed_entries == {"embed": "cpu"}
    assert story.remedies[1].command == "devplan.patch_embeddings(model)"
    assert story.entry.key == "embed"


def test_a_parameter_is_named():
    model = without_norm(tiny_llama())
    story = story_of(failure(lambda: model(input_ids=prompt()), model))
    named = {tensor.argument: tensor.name for tensor in story.tensors}
    assert named["self.weight"] == "model.layers.2.input_layernorm.weight"


def test_a_map_file_gives_file_and_line(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("".join(f"{name}: {device}\n" for name, device in cpu_map().items()))
    model = without_norm(tiny_llama())
    error = failure(lambda: model(input_ids=prompt()), model, path)
    entry = story_of(error).entry
    assert (entry.key, entry.file, entry.line) == ("model.layers.2", path.as_posix(), 5)
    assert f"{path.as_posix()}:5: model.layers.2: cpu" in error.__notes__[0]


def test_a_map_that_is_not_there_is_said_before_anything_runs():
    with pytest.raises(InputError, match=r"there is no map none\.yaml; check the path"):
        diagnose(tiny_llama(), "none.yaml")


def test_a_map_that_cannot_be_read_is_a_note_of_the_story(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("- no map\n")
    model = without_norm(tiny_llama())
    story = story_of(failure(lambda: model(input_ids=prompt()), model, path))
    assert story.module == "model.layers.2.input_layernorm"
    assert "holds no device map" in story.notes[0]


def test_a_model_without_a_map_is_explained_too():
    model = without_norm(tiny_llama())
    del model.hf_device_map
    story = story_of(failure(lambda: model(input_ids=prompt()), model))
    assert (story.module, story.entry) == ("model.layers.2.input_layernorm", None)


def test_lack_of_memory_for_real():
    model = Fills()
    error = failure(lambda: model(torch.ones(3)), model)
    story = story_of(error)
    assert (type(error), story.kind) == (RuntimeError, Kind.MEMORY)
    assert story.requested_bytes == 4 * 10**15
    assert story.source.text == "return x * torch.empty(10**15)"
    assert "3637.98 TiB" in story.meaning or str(4 * 10**15) in story.meaning


def test_lack_of_memory_on_a_card_beside_what_the_map_predicted():
    maps = Path(__file__).parents[2] / "maps"
    source = next(maps.glob("qwen2.5-vl-7b-instruct__24+12gib__*.yaml"))
    words = (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has a total capacity of 11.90 GiB"
    )
    given = torch.OutOfMemoryError(f"{words} of which 0.50 GiB is free.")
    model = Fills(given)
    error = failure(lambda: model(torch.ones(3)), model, source)
    story = story_of(error)
    assert error is given and story.devices == ("cuda:1",)
    cards = {card.device: card.predicted_bytes for card in story.cards}
    assert set(cards) >= {"cuda:0", "cuda:1"} and all(cards[each] > 2**30 for each in cards)
    commands = [remedy.command for remedy in story.remedies]
    assert commands[0].startswith(
        "devplan suggest Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB --batch 1 --context 32768"
    )
    assert "predicted" in error.__notes__[0]


def test_the_call_that_was_too_large_is_what_is_planned_for():
    model = Fills(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))

    def call(input_ids):
        return model(input_ids)

    story = story_of(failure(lambda: call(input_ids=torch.ones(4, 900).long()), model))
    assert (story.workload.batch, story.workload.tokens) == (4, 900)
    assert "--batch 4 --context 900" in story.remedies[0].command


def test_a_pipeline_of_models():
    class Pipeline:
        def __init__(self):
            self.unet = without_norm(tiny_llama())
            self.vae = tiny_llama()
            self.name = "x"

    pipeline = Pipeline()
    story = story_of(failure(lambda: pipeline.unet(input_ids=prompt()), pipeline))
    assert story.module == "model.layers.2.input_layernorm"
    assert story.entry.key == "model.layers.2"
    assert story.notes == ("the model is unet of Pipeline",)


def test_an_error_outside_the_model_is_told_without_a_module():
    model = tiny_llama()
    error = failure(lambda: torch.ones(2) + torch.ones(2, device="meta"), model)
    story = story_of(error)
    assert (story.kind, story.module) == (Kind.MISMATCH, None)
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
