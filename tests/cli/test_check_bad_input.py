"""What cannot be checked: one line, status 2, no traceback but that of the user's own code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.checks.case import model_name

ROOT = Path(__file__).parents[2]
LLAMA = model_name("tiny_llama")
LAYERS = {f"model.layers.{number}": number // 3 for number in range(6)}
CLEAN = {"model.embed_tokens": 0, "model.rotary_emb": 0, **LAYERS, "model.norm": 0, "lm_head": 0}


@pytest.fixture
def check(here):
    """Arguments of a check of the map `CLEAN`, beside files of the user's."""
    (here / "map.yaml").write_text(yaml.safe_dump(CLEAN))
    return ("check", "map.yaml", "--model", LLAMA)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: [0\n", ["map.yaml:2: not YAML"]),
        ("- model\n", ["map.yaml:1: holds no device map but a list"]),
        ("transformer.wte: 0\ntransformer.h.0: 1\n", ["another model: LlamaForCausalLM", "2 of"]),
    ],
)
def test_a_map_that_is_none(check, here, refused, text, words):
    (here / "map.yaml").write_text(text)
    line = refused(*check)
    for word in words:
        assert word in line


def test_a_map_of_another_model_says_whose_it_is(check, here, refused):
    layers = {f"model.layers.{number}": number // 18 for number in range(36)}
    of_another = {"model.embed_tokens": 0, **layers, "model.norm": 1, "lm_head": 1}
    (here / "map.yaml").write_text(yaml.safe_dump(of_another))
    assert "; it fits Qwen/Qwen3-8B" in refused(*check)


def test_a_map_that_devplan_made_for_another_class(check, refused):
    written = next((ROOT / "maps").glob("qwen2.5-vl-7b-instruct__24+12gib__*.yaml"))
    line = refused("check", str(written), "--model", "Qwen/Qwen3-8B")
    assert "another model: Qwen3ForCausalLM of Qwen/Qwen3-8B" in line
    assert "made for Qwen/Qwen2.5-VL-7B-Instruct (Qwen2_5_VLForConditionalGeneration)" in line


def test_images_for_a_model_that_takes_none(check, refused):
    assert "--images 2, but no argument of the model takes images" in refused(
        *check, "--images", "2"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": 63}, ["63", "correct its config.json"]),
        ({"model_type": "lama", "architectures": ["LamaModel"]}, ["'lama'", "did you mean llama"]),
    ],
)
def test_a_model_that_cannot_be_built(check, here, refused, checkpoint, change, words):
    (here / "model").mkdir()
    config = {**json.loads((checkpoint / "config.json").read_text()), **change}
    (here / "model" / "config.json").write_text(json.dumps(config))
    line = refused(*check[:2], "--model", "./model")
    for word in words:
        assert word in line


def test_an_inputs_function_that_raises_shows_its_own_traceback(check, here, devplan):
    (here / "mine.py").write_text("def inputs():\n    return {}['ids']\n")
    answer = devplan(*check, "--inputs", "mine.py:inputs")
    assert answer.status == 2
    *traceback, last = answer.err.splitlines()
    assert 'mine.py", line 2, in inputs' in "\n".join(traceback)
    assert last.startswith("devplan: mine.py:inputs raised KeyError")
    assert "user.py" not in answer.err  # devplan's own frames


def test_out_of_time(check, refused):
    line = refused(*check, "--timeout", "0.001")
    assert "out of time after 0.001 s; raise --timeout" in line


@pytest.mark.parametrize("command", ["suggest", "fit", "compare"])
def test_out_of_time_before_there_is_a_plan(refused, here, checkpoint, command):
    before = sorted(path.name for path in here.iterdir())
    line = refused(command, checkpoint, "--gpus", "2x1GiB", "--timeout", "0.001")
    assert "out of time after 0.001 s; raise --timeout" in line
    assert sorted(path.name for path in here.iterdir()) == before


@pytest.mark.parametrize("typed", ["inf", "nan", "0", "-1", "1e400", "-inf", "10000001", "1e-400"])
@pytest.mark.parametrize("command", ["check", "graph", "diff", "suggest", "fit", "compare"])
def test_seconds_that_no_run_can_have(check, refused, command, typed):
    rest = {
        "check": ("map.yaml", "--model", LLAMA),
        "graph": ("map.yaml", "--model", LLAMA),
        "diff": ("map.yaml", "map.yaml", "--model", LLAMA),
    }.get(command, (LLAMA, "--gpus", "2x1GiB"))
    line = refused(command, *rest, f"--timeout={typed}")
    assert "--timeout" in line and "seconds above 0, at most 10,000,000" in line


def test_an_exception_of_the_models_code_is_no_mismatch_and_has_its_place(check, here, devplan):
    (here / "mine.py").write_text(
        "import torch\n\n\ndef inputs():\n"
        "    return {'input_ids': torch.ones(1, 4, dtype=torch.long),\n"
        "            'attention_mask': torch.ones(1, 4, dtype=torch.long), 'colour': 'red'}\n\n\n"
        "def run(model, inputs):\n"
        "    return model(input_ids=inputs['input_ids'], colours=[1][3])\n"
    )
    arguments = ("--inputs", "mine.py:inputs", "--run", "mine.py:run", "--format", "json")
    answer = devplan(*check, *arguments)
    assert answer.status == 1 and "Traceback" not in answer.err
    (error,) = [
        item for item in json.loads(answer.out)["maps"][0]["findings"] if item["code"] == "DP302"
    ]
    assert "raised IndexError in run, which is not a device mismatch" in error["message"]
    assert (error["source"]["file"], error["source"]["line"]) == ("mine.py", 10)


def test_an_op_that_devplan_does_not_know_is_named_and_the_run_goes_on(check, here, devplan):
    (here / "mine.py").write_text(
        "import torch\n\n"
        "library = torch.library.Library('kernels_of_this_test', 'FRAGMENT')\n"
        "library.define('turn(Tensor x, Tensor y) -> Tensor')\n"
        "library.impl('turn', lambda x, y: x, 'CUDA')\n\n\n"
        "def run(model, inputs):\n"
        "    hidden = model.model.embed_tokens(inputs['input_ids'])\n"
        "    return model.lm_head(torch.ops.kernels_of_this_test.turn(hidden, hidden))\n"
    )
    answer = devplan(*check, "--run", "mine.py:run", "--format", "json")
    seen = json.loads(answer.out)["maps"][0]
    assert answer.status == 0 and seen["runs"][0]["phases"] == ["run"]
    (note,) = [item for item in seen["findings"] if item["code"] == "DP904"]
    assert note["message"].startswith("unverified: ")
    assert "kernels_of_this_test.turn.default" in note["message"]
