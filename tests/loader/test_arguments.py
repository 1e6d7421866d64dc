"""Arguments that contradict the map get one line; all others reach ``from_pretrained``."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import BitsAndBytesConfig

import devplan
from devplan.core.errors import InputError
from devplan.loader.arguments import dtype_argument, from_pretrained_arguments, loadable, location
from devplan.loader.target import target_of
from devplan.mapfile.read import read_map
from tests.loader.checkpoints import ALL_CPU


@pytest.mark.parametrize(
    "arguments, facts",
    [
        ({"device_map": "auto"}, ("device_map=", "leave it out")),
        ({"max_memory": {0: "1GiB"}}, ("max_memory=", "leave it out")),
        ({"tp_plan": "auto"}, ("tp_plan=", "leave it out")),
        ({"dtype": "float16"}, ("dtype=float16", "float32", "--dtype float16")),
        ({"torch_dtype": torch.bfloat16}, ("torch_dtype=bfloat16", "--dtype bfloat16")),
        (
            {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)},
            ("quantization_config=bitsandbytes", "unquantized weights"),
        ),
        ({"weights_only": False}, ("weights_only=False", "safetensors")),
        ({"on_difference": "ignore"}, ("on_difference", "raise or warn")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_clashes_get_one_line(tied, arguments, facts):
    with pytest.raises(InputError) as refused:
        devplan.load(tied.folder, tied.map, devices=ALL_CPU, **arguments)
    assert "\n" not in str(refused.value)
    for fact in facts:
        assert fact in str(refused.value)


def arguments_for(map_file, model=None, trust=False, **given):
    target = target_of(map_file)
    return from_pretrained_arguments(
        target, loadable(target, trust_remote_code=trust), model, given
    )


def test_revision_and_subfolder_go_with_the_id_of_the_map(tied):
    map_file = read_map(tied.map)
    identity = replace(map_file.model, id="org/name/part", revision="abc")
    on_hub = replace(map_file, model=identity)
    made = arguments_for(on_hub)
    assert (made["revision"], made["subfolder"]) == ("abc", "part")
    assert "revision" not in arguments_for(on_hub, "./folder")
    assert arguments_for(on_hub, revision="v2")["revision"] == "v2"


def test_code_that_comes_with_the_model_runs_only_if_trusted(tied):
    map_file = read_map(tied.map)
    identity = replace(map_file.model, class_name="OwnForCausalLM", auto_class="AutoModel")
    remote = replace(map_file, model=identity)
    with pytest.raises(InputError, match="if you trust it give trust_remote_code=True"):
        devplan.load(tied.folder, remote, devices=ALL_CPU)
    assert arguments_for(remote, trust=True)["trust_remote_code"] is True


def test_a_class_that_is_not_installed(tied):
    map_file = read_map(tied.map)
    identity = replace(map_file.model, class_name="LlamaForCausalML")
    with pytest.raises(InputError, match=r"LlamaForCausalML, which transformers .* does not have"):
        devplan.load(tied.folder, replace(map_file, model=identity), devices=ALL_CPU)


def test_a_map_of_a_function(tied):
    map_file = read_map(tied.map)
    identity = replace(map_file.model, id="package.module:build")
    with pytest.raises(InputError, match=r"give it to devplan\.apply"):
        devplan.load(tied.folder, replace(map_file, model=identity), devices=ALL_CPU)


@pytest.mark.parametrize(
    ("model_id", "revision"),
    [("org/name", "../../elsewhere"), ("org/name/../../elsewhere", "main"), ("org/name", "/etc")],
)
def test_a_map_cannot_lead_to_files_outside_of_its_repository(tied, model_id, revision):
    content = read_map(tied.map)
    content = replace(content, model=replace(content.model, id=model_id, revision=revision))
    target = replace(target_of(tied.map), content=content)
    with pytest.raises(InputError, match="which is not below its own folder"):
        location(target, None)


def test_a_part_of_a_repository_is_its_subfolder(tied):
    content = read_map(tied.map)
    content = replace(content, model=replace(content.model, id="org/name/part", revision="main"))
    target = replace(target_of(tied.map), content=content)
    assert location(target, None) == ("org/name", "part")
    assert location(target, "elsewhere") == ("elsewhere", None)


@pytest.mark.parametrize(
    ("library", "planned", "given", "passed"),
    [
        ("transformers", "auto", {}, "auto"),
        ("transformers", "auto", {"dtype": "float16"}, "float16"),
        ("transformers", "auto", {"torch_dtype": torch.float16}, torch.float16),
        ("transformers", "auto", {"dtype": None, "torch_dtype": "float32"}, "float32"),
        ("transformers", "bfloat16", {}, "bfloat16"),
        ("transformers", "bfloat16", {"dtype": "bfloat16"}, "bfloat16"),
        ("diffusers", "auto", {}, None),
        ("diffusers", "auto", {"torch_dtype": torch.float16}, torch.float16),
        ("diffusers", "bfloat16", {}, torch.bfloat16),
    ],
)
def test_the_dtype_is_the_callers_only_where_the_map_leaves_it(
    tied, monkeypatch, library, planned, given, passed
):
    monkeypatch.setattr("devplan.loader.arguments.load_dtype", lambda content: planned)
    found = dtype_argument(read_map(tied.map), library, given)
    assert found == ({} if passed is None else {next(iter(found)): passed})
    assert set(found) <= ({"torch_dtype"} if library == "diffusers" else {"dtype", "torch_dtype"})
