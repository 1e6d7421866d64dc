"""Skeletons: real classes at full size, on the meta device."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import transformers
from torch import nn

from devplan.checker.checking import check
from devplan.core.errors import InputError
from devplan.models.blocks import partition
from devplan.models.build import build_skeleton
from devplan.models.resolution import resolve
from devplan.models.source import ModelSource

NAME = "Qwen/Qwen2.5-VL-7B-Instruct"


@pytest.fixture(scope="module")
def source() -> ModelSource:
    return resolve(NAME)


def test_full_size_without_a_byte(source):
    skeleton = build_skeleton(source)
    tensors = [*skeleton.model.parameters(), *skeleton.model.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert skeleton.class_name == "Qwen2_5_VLForConditionalGeneration"
    assert skeleton.dtype == torch.bfloat16
    assert {p.dtype for p in skeleton.model.parameters()} == {torch.bfloat16}
    assert {"Qwen2_5_VLDecoderLayer", "Qwen2_5_VLVisionBlock"} <= skeleton.no_split
    assert skeleton.max_tokens == 128_000
    assert not skeleton.model.training


def test_another_dtype(source):
    skeleton = build_skeleton(source, "float16")
    assert skeleton.dtype == torch.float16
    assert {p.dtype for p in skeleton.model.parameters()} == {torch.float16}


def test_below_a_device_context_and_grad_mode_nothing_changes(source):
    before = torch.empty(1).device
    build_skeleton(source)
    assert torch.empty(1).device == before
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": "wide"}, "config.json"),
        ({"num_hidden_layers": -1, "layer_types": "all"}, "config.json"),
    ],
)
def test_a_configuration_that_does_not_fit_is_one_line(source, change, words):
    config = dict(source.config)
    inner = dict(config.get("text_config") or {})
    broken = {**config, **change, **({"text_config": {**inner, **change}} if inner else {})}
    with pytest.raises(InputError) as raised:
        build_skeleton(replace(source, config=broken))
    message = str(raised.value)
    assert "\n" not in message
    assert NAME in message and words in message


def test_code_that_is_not_here_is_planned_from_its_tensors():
    skeleton = build_skeleton(resolve("openbmb/MiniCPM-V-4_5"))
    assert not skeleton.executable
    assert sum(p.numel() for p in skeleton.model.parameters()) == 8_695_895_280
    layers = [site for site in partition(skeleton.model, skeleton.no_split) if site.stack]
    assert len(layers) > 36
    assert "nothing was run" in skeleton.notes[0]


def small_model() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))


def test_a_module_of_the_users():
    source = ModelSource(
        id="mine:make", origin="factory", location=None, library="factory", factory=small_model
    )
    skeleton = build_skeleton(source, "bfloat16")
    assert skeleton.config is None
    assert skeleton.max_tokens is None
    assert {p.dtype for p in skeleton.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("class_name", ["BarkSemanticModel", "BarkCoarseModel"])
def test_positions_are_those_of_the_table_where_the_configuration_calls_them_otherwise(
    tmp_path, class_name
):
    """Bark's configuration says ``block_size``; 4,093 made-up tokens were too many."""
    config = getattr(transformers, class_name).config_class(
        block_size=256, num_layers=2, num_heads=2, hidden_size=32
    )
    settings = {**config.to_dict(), "architectures": [class_name]}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert build_skeleton(resolve(str(tmp_path))).max_tokens == 256
    (run, *_) = check(str(tmp_path), {"": 0}).runs
    assert "[1, 253]" in run.inputs
    assert run.error is None
