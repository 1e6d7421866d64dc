"""What cannot be used is refused: one line on stderr with the remedy, status 2, no file."""

from __future__ import annotations

import json
import shutil

import pytest

CARDS = ("--gpus", "1GiB,1GiB")


# ------------------------------------------------------------------------------ the command line


def test_an_unknown_command(refused):
    line = refused("sugest", "x")
    assert "'sugest'" in line
    assert "devplan --help" in line


def test_an_unknown_option(refused):
    assert "--contxt" in refused("suggest", "x", "--contxt", "7")


def test_no_model(refused):
    assert "no model" in refused("suggest", *CARDS)


def test_no_machine(refused):
    line = refused("suggest", "Qwen/Qwen3-8B")
    assert "--gpus 0,1" in line
    assert "--gpus 24GiB,12GiB" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--batch", "0"], ["--batch 0", "sequences", "1 to"]),
        (["--batch", "-3"], ["--batch -3"]),
        (["--batch", "two"], ["--batch two", "whole number"]),
        (["--batch", "99999999999"], ["--batch 99999999999", "1,048,576"]),
        (["--context", "0"], ["--context 0", "tokens"]),
        (["--context", "-1"], ["--context -1"]),
        (["--context", "32kb"], ["--context 32kb", "whole number", "32k"]),
        (["--context", "0k"], ["--context 0k"]),
        (["--context", "1.5"], ["--context 1.5"]),
        (["--context", "1.3k"], ["--context 1.3k"]),
        (["--context", "1,5"], ["--context 1,5"]),
        (["--context", "3_2768"], ["--context 3_2768"]),
        (["--context", "2048m"], ["--context 2048m", "1,073,741,824"]),
        (["--dtype", "bfloat61"], ["--dtype", "'bfloat61'", "did you mean bfloat16"]),
        (["--dtype", "int8"], ["--dtype", "int8", "bfloat16"]),
        (["--kv-dtype", "fp9"], ["--kv-dtype", "'fp9'", "fp8"]),
        (["--objective", "balanse"], ["'balanse'", "context", "did you mean balance?"]),
        (["--pin", "lm_head"], ["'lm_head'", "MODULE=DEVICE"]),
        (["--pin", "lm_head="], ["MODULE=DEVICE"]),
        (["--pin", "lm_head=0", "--pin", "lm_head=1"], ["lm_head=cuda:0", "lm_head=cuda:1"]),
        (["--main", "cuda:3"], ["--main cuda:3", "cuda:0, cuda:1"]),
        (["--reserve", "1GiB"], ["1.00 GiB", "cuda:0", "reserve less"]),
        (["--reserve", "-1GiB"], ["-1GiB", "negative"]),
        (["--offload", "gpu"], ["gpu", "cpu=64GiB"]),
        (["--links", "fast"], ["--links", "'fast'", "pcie4x16", "0-1:nvlink"]),
        (["--links", ""], ["--links", "empty"]),
        (["--links", "0-7:nvlink3"], ["--links 0-7:nvlink3", "7 is not a GPU"]),
        (["--links", "measured"], ["--links measured", "cuda:0 (1GiB)"]),
        (["--offload", "cpu=0"], ["cpu=0"]),
        (["--memory", "24GiB"], ["--memory 24GiB", "leave --memory out"]),
    ],
    ids=" ".join,
)
def test_a_value_that_cannot_be(refused, options, words):
    line = refused("suggest", "Qwen/Qwen3-8B", *CARDS, *options)
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        ("foo", ["'foo'", "--gpus list", "24GiB"]),
        ("24GiB,", ["empty item"]),
        ("24G", ["half a unit", "24GiB"]),
        ("0GiB", ["0GiB", "at least 256"]),
        ("-24GiB", ["-24GiB", "negative"]),
        ("900TiB", ["900TiB", "at most 2.00 TiB"]),
        ("0,0", ["GPU 0 twice", "2x24GiB"]),
        ("65x24GiB", ["65x24GiB", "1 to 64"]),
        ("4090", ["4090 is an index", "rtx-4090"]),
        ("a100", ["a100-40gb", "a100-80gb"]),
    ],
)
def test_cards_that_cannot_be(refused, gpus, words):
    line = refused("suggest", "Qwen/Qwen3-8B", "--gpus", gpus)
    for word in words:
        assert word in line


def test_indices_where_no_gpu_is(refused, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    line = refused("suggest", "Qwen/Qwen3-8B", "--gpus", "0,1")
    assert "no GPU 0 or 1 on this machine" in line
    assert "--gpus 0,1 --memory 24GiB,24GiB" in line


# ------------------------------------------------------------------------------------- the model


def test_a_name_that_is_nearly_one_of_the_catalogue(refused):
    line = refused("suggest", "qwen2.5-vl-7b-instrct", *CARDS)
    assert "did you mean Qwen/Qwen2.5-VL-7B-Instruct" in line


def test_a_folder_that_is_nearly_there(refused, here):
    (here / "my-model").mkdir()
    assert "did you mean my-model?" in refused("suggest", "./my-modle", *CARDS)
    assert "config.json" in refused("suggest", "./something-else", *CARDS)


def test_a_folder_without_a_config(refused, here):
    (here / "void").mkdir()
    line = refused("suggest", "./void", *CARDS)
    assert "no config.json" in line
    assert "save_pretrained" in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('{"a": 1,', ["line 1, column 9", "broken JSON"]),
        ("[]", ["a list", "object"]),
        ("{}", ['"architectures"', '"model_type"']),
        ({"model_type": "lama", "architectures": ["LamaModel"]}, ["'lama'", "did you mean llama"]),
        ({"architectures": ["LlamaForCausalML"]}, ["did you mean LlamaForCausalLM"]),
        ({"architectures": ["LlamaConfig"]}, ["LlamaConfig, which is not a model"]),
        (
            {
                "model_type": "mine",
                "architectures": ["MineForCausalLM"],
                "auto_map": {"AutoModelForCausalLM": "modeling_mine.MineForCausalLM"},
            },
            ["MineForCausalLM", "--trust-remote-code"],
        ),
        ({"hidden_size": 63}, ["63", "correct its config.json"]),
        ({"hidden_size": -64}, ["-64", "correct its config.json"]),
        ({"dtype": "bfloat61"}, ["config.json", "bfloat61", "bfloat16"]),
        ({"quantization_config": "int8"}, ["quantization_config", "'int8'"]),
        ({"quantization_config": {"quant_method": "mine"}}, ["'mine'", "gptq"]),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_built(refused, here, checkpoint, change, words):
    text = change
    if isinstance(change, dict):
        text = json.dumps({**json.loads((checkpoint / "config.json").read_text()), **change})
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text(text)
    line = refused("suggest", "./model", *CARDS)
    for word in ("model", *words):
        assert word in line


def test_weights_that_are_cut_off_or_missing(refused, here, checkpoint):
    shutil.copytree(checkpoint, here / "model")
    shards = sorted((here / "model").glob("*.safetensors"))
    assert len(shards) > 1
    shards[0].write_bytes(shards[0].read_bytes()[:100])
    line = refused("suggest", "./model", *CARDS)
    assert shards[0].name in line
    assert "download it again" in line
    shards[0].unlink()
    assert f"{shards[0].name} is missing" in refused("suggest", "./model", *CARDS)


FACTORIES = """
import torch

def nothing(): return None
def on_the_cpu(): return torch.nn.Linear(2, 2)
def of_no_size(): return torch.nn.Identity()
def with_arguments(size): return torch.nn.Linear(size, size)
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", ["returned None", "torch.nn.Module"]),
        ("on_the_cpu", ["2 parameters off the meta device", "torch.device('meta')"]),
        ("of_no_size", ["Identity", "nothing to place"]),
        ("with_arguments", ["(size)", "without arguments"]),
        ("nothin", ["did you mean nothing?"]),
        ("xyz", ["has no 'xyz'", "nothing"]),
    ],
)
def test_a_factory_that_gives_no_model(refused, here, name, words):
    (here / "factories_of_this_test.py").write_text(FACTORIES)
    line = refused("suggest", f"factories_of_this_test:{name}", *CARDS)
    for word in words:
        assert word in line


def test_an_error_in_the_users_own_code_keeps_its_traceback(devplan, here):
    (here / "breaks_in_this_test.py").write_text("def build():\n    raise ValueError('my bug')\n")
    answer = devplan("suggest", "breaks_in_this_test:build", *CARDS)
    assert answer.status == 2
    assert 'breaks_in_this_test.py", line 2' in answer.err
    last = answer.err.splitlines()[-1]
    assert last == "devplan: breaks_in_this_test:build raised ValueError: my bug"
    assert "devplan/" not in answer.err


# ------------------------------------------------------------------------------ pins and output


@pytest.mark.parametrize(
    ("pins", "words"),
    [
        (["model.layer.0=cuda:0"], ["'model.layer.0'", "did you mean model.layers.0"]),
        (["lm_head=cuda:7"], ["cuda:7", "cuda:0, cuda:1"]),
        (["lm_head=cpu"], ["cpu", "--offload"]),
        (["model=0", "model.layers.1=1"], ["model=cuda:0", "model.layers.1=cuda:1"]),
        (["model.embed_tokens=0", "lm_head=1"], ["tied weights", "model.embed_tokens", "lm_head"]),
    ],
    ids=str,
)
def test_pins_that_cannot_be_kept(refused, checkpoint, pins, words):
    options = [part for pin in pins for part in ("--pin", pin)]
    line = refused("suggest", checkpoint, *CARDS, *options)
    for word in words:
        assert word in line


def test_a_pin_against_the_settings(refused, here, checkpoint):
    (here / "devplan.yaml").write_text("gpus: [1GiB, 1GiB]\npin:\n  model.layers: cuda:0\n")
    line = refused("suggest", checkpoint, "--pin", "model.layers.1=1")
    for word in ("model.layers.1=cuda:1", "model.layers=cuda:0", "devplan.yaml, line 2"):
        assert word in line


def test_an_output_that_cannot_be_written(refused, here, checkpoint):
    (here / "file").write_text("")
    (here / "folder").mkdir()
    assert "it is a folder" in refused("suggest", checkpoint, *CARDS, "-o", "folder")
    assert "is not a folder" in refused("suggest", checkpoint, *CARDS, "-o", "file/map.yaml")
    assert "not a regular file" in refused("suggest", checkpoint, *CARDS, "-o", "/dev/null")


def test_a_value_of_the_settings_names_file_and_line(refused, here):
    (here / "devplan.yaml").write_text("model: Qwen/Qwen3-8B\ngpus: [24GiB, 12G]\n")
    assert "devplan.yaml, line 2: gpus: " in refused("suggest")
    (here / "devplan.yaml").write_text("gpus: [24GiB]\nreserve: 30GiB\n")
    assert "devplan.yaml, line 2: reserve: " in refused("suggest", "Qwen/Qwen3-8B")
    (here / "devplan.yaml").write_text("gpus: [24GiB, 24GiB]\nlinks: [pcie9x16]\n")
    line = refused("suggest", "Qwen/Qwen3-8B")
    assert "devplan.yaml, line 2: links: " in line and "pcie9x16" in line
    (here / "devplan.yaml").write_text("gpus: [24GiB]\ndtype: bf61\n")
    assert "devplan.yaml, line 2: dtype: " in refused("suggest", "Qwen/Qwen3-8B")


def test_the_objective_latency_needs_cards_with_a_name(refused):
    line = refused("suggest", "Qwen/Qwen3-8B", "--gpus", "24GiB,rtx-4090", "--objective", "latency")
    assert "cuda:0 (24GiB)" in line and "cuda:1" not in line
    assert "--gpus a100-80gb,rtx-4090" in line
