"""``devplan fit``, ``compare`` and ``diff``: reports, exit statuses, and what is refused."""

from __future__ import annotations

import json

import pytest

from devplan.core.devices import to_hf_device_map
from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.workflows.suggesting import suggest

CARDS = "1GiB,512MiB"


def one_line(text: str) -> str:
    return " ".join(text.split())


# ----------------------------------------------------------------------------------------- fit


def test_fit_shows_a_table_and_how_to_go_on(devplan, checkpoint):
    answer = devplan("fit", checkpoint, "--gpus", CARDS, "--gpus", "2x1GiB", "--context", "128")
    assert (answer.status, answer.err, answer.files) == (0, "", ())
    for word in ("1gib+512mib", "2x1gib", "float32", "8 bit", "4 bit", "clean", "256*"):
        assert word in answer.out
    said = one_line(answer.out)
    assert "the model's own limit" in said
    assert "quantization_config=BitsAndBytesConfig(load_in_8bit=True)" in said
    assert f"devplan suggest {checkpoint} --gpus 1GiB,512MiB --context 128" in said
    assert max(map(len, answer.out.splitlines())) <= 80 + len(str(checkpoint))


def test_fit_json_holds_every_row(devplan, checkpoint):
    answer = devplan("fit", checkpoint, "--gpus", CARDS, "--format", "json", "--no-verify")
    report = json.loads(answer.out)
    assert report["status"] == "fits"
    assert [row["precision"] for row in report["rows"]] == ["float32", "8 bit", "4 bit"]
    (first, *_) = report["rows"]
    assert first["most_tokens"] == 256
    assert first["tokens_limited_by"] == "model"
    assert {run["status"] for run in first["runs"].values()} == {"unverified"}
    placed = suggest(str(checkpoint), parse_gpus(CARDS), Workload(), verify=False)
    assert first["device_map"] == to_hf_device_map(placed.map_file.device_map)


def test_fit_says_that_nothing_fits_and_what_is_missing(devplan):
    answer = devplan("fit", "Qwen/Qwen3-8B", "--gpus", "2GiB", "--no-verify")
    assert answer.status == 1
    assert "lacks" in answer.out
    assert "Nothing fits. The nearest is 2gib with 4 bit" in one_line(answer.out)


def test_fit_counts_the_cards_of_a_kind(devplan, checkpoint):
    answer = devplan("fit", checkpoint, "--card", "512MiB", "--format", "json", "-o", "fit.json")
    assert (answer.status, answer.out, answer.files) == (0, "", ("fit.json",))


def test_fit_takes_model_and_machine_from_the_settings(devplan, here, checkpoint):
    (here / "devplan.yaml").write_text(f"model: {checkpoint}\ngpus: [1GiB]\noffload: [cpu]\n")
    report = json.loads(devplan("fit", "--format", "json", "--no-verify").out)
    assert {row["label"] for row in report["rows"]} == {"1gib"}
    assert not any(row["machine"]["tiers"] for row in report["rows"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x"], ["nothing to choose from", "--gpus 2x24GiB", "--card a100-80gb"]),
        ([], ["no model", "devplan fit MODEL"]),
        (["x", "--gpus", "24"], ["--gpus", "no GPU 24", "24GiB"]),
        (["x", "--card", "2x24GiB"], ["--card 2x24GiB", "one kind"]),
        (["x", "--card", "rtx-4099"], ["rtx-4099"]),
        (["x", "--gpus", CARDS, "--context", "32kb"], ["--context 32kb", "whole number"]),
        (["x", "--gpus", CARDS, "--batch", "0"], ["--batch 0"]),
        (["x", "--gpus", CARDS, "--format", "yaml"], ["--format 'yaml'", "text, json"]),
        (["x", "--gpus", CARDS, "--dtype", "int8"], ["--dtype", "int8"]),
        (["x", "--gpus", CARDS, "--objective", "context"], ["--objective"]),
    ],
    ids=" ".join,
)
def test_fit_refuses(refused, arguments, words):
    line = refused("fit", *arguments)
    for word in words:
        assert word in line


# ------------------------------------------------------------------------------------- compare


def test_compare_shows_every_planner(devplan, checkpoint):
    answer = devplan("compare", checkpoint, "--gpus", CARDS)
    assert (answer.status, answer.err, answer.files) == (0, "", ())
    for word in ("devplan", "accelerate", "auto", "balanced_low_0", "sequential", "most tokens"):
        assert word in answer.out
    said = one_line(answer.out)
    assert "infer_auto_device_map as called by hand (accelerate " in said
    assert "from_pretrained(device_map=...) (transformers " in said
    assert "256*" in said


def test_compare_json(devplan, checkpoint):
    answer = devplan("compare", checkpoint, "--gpus", CARDS, "--format", "json", "-o", "c.json")
    assert (answer.status, answer.out, answer.files) == (0, "", ("c.json",))
    assert "c.json" in answer.err


def test_compare_says_when_devplan_has_no_clean_map(devplan, checkpoint):
    few = ("--batch", "4096", "--gpus", "256MiB", "--context", "256")
    answer = devplan("compare", checkpoint, *few)
    assert answer.status == 1
    assert "no map" in answer.out
    assert "nothing fits" in one_line(answer.out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x"], ["no machine", "--gpus"]),
        (["x", "--gpus", CARDS, "--format", "sarif"], ["--format 'sarif'", "text, json"]),
        (["x", "--gpus", CARDS, "--pin", "lm_head"], ["--pin", "MODULE=DEVICE"]),
    ],
    ids=" ".join,
)
def test_compare_refuses(refused, arguments, words):
    line = refused("compare", *arguments)
    for word in words:
        assert word in line


# ---------------------------------------------------------------------------------------- diff


def test_diff_of_a_map_and_itself(devplan, here, checkpoint):
    devplan("suggest", checkpoint, "--gpus", CARDS, "-o", "a.yaml", "--no-verify")
    answer = devplan("diff", "a.yaml", "a.yaml")
    assert (answer.status, answer.err) == (0, "")
    assert "every tensor is on the same device in both" in answer.out


def test_diff_folds_what_moved_and_sets_the_rest_side_by_side(devplan, here, checkpoint):
    devplan("suggest", checkpoint, "--gpus", CARDS, "-o", "a.yaml", "--no-verify")
    (here / "b.json").write_text(json.dumps({"": 1}))
    answer = devplan("diff", "a.yaml", "b.json")
    assert answer.status == 1
    said = one_line(answer.out)
    assert "cuda:0 -> cuda:1" in said
    for word in ("virtual run", "most tokens", "copies per generated token", "A cache", "B peak"):
        assert word in said
    report = json.loads(devplan("diff", "a.yaml", "b.json", "--format", "json").out)
    assert report["status"] == "different"
    moved = {name for change in report["changes"] for name in change["names"]}
    assert "model.embed_tokens" in moved
    assert report["before"]["clean"]


def test_diff_with_a_strategy(devplan, checkpoint):
    devplan("suggest", checkpoint, "--gpus", CARDS, "-o", "a.yaml", "--no-verify")
    assert devplan("diff", "a.yaml", "auto").status in (0, 1)
    both = ("--model", checkpoint, "--gpus", CARDS)
    assert devplan("diff", "auto", "balanced", *both).status == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.json"], ["'B'", "devplan diff --help"]),
        (["a.json", "none.yaml"], ["none.yaml"]),
        (["a.json", "b.json"], ["--model"]),
        (["a.json", "b.json", "--model", "Qwen/Qwen3-8B"], ["--gpus"]),
        (["a.json", "atuo", "--model", "Qwen/Qwen3-8B", "--gpus", CARDS], ["atuo"]),
        (["a.json", "b.json", "--context", "0"], ["--context 0"]),
        (["a.json", "b.json", "--format", "xml"], ["--format 'xml'"]),
    ],
    ids=" ".join,
)
def test_diff_refuses(refused, here, arguments, words):
    for name in ("a.json", "b.json"):
        (here / name).write_text(json.dumps({"": 0}))
    line = refused("diff", *arguments)
    for word in words:
        assert word in line
