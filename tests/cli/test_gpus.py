"""``devplan gpus`` and ``--gpus list``: the cards that can be named."""

from __future__ import annotations

import json

import pytest

from devplan.catalog import gpus
from devplan.core.units import GIB


def test_every_card_with_its_memory(devplan):
    answer = devplan("gpus")
    assert (answer.status, answer.err, answer.files) == (0, "", ())
    lines = {line.split()[0]: line for line in answer.out.splitlines() if line.strip()}
    for gpu in gpus.load_gpus():
        assert gpu.name in lines[gpu.id]
        assert f"{gpu.capacity_bytes / GIB:.2f}" in lines[gpu.id]
    assert all(len(line) <= 80 for line in answer.out.splitlines())


def test_the_same_for_programs(devplan):
    listed = json.loads(devplan("gpus", "--json").out)["gpus"]
    assert [each["name"] for each in listed] == list(gpus.gpu_ids())
    (card,) = (each for each in listed if each["name"] == "rtx-4090")
    assert card["capacity_bytes"] == gpus.find_gpu("rtx-4090").capacity_bytes


@pytest.mark.parametrize(
    "arguments",
    [
        ("suggest", "--gpus", "list"),
        ("suggest", "Qwen/Qwen3-8B", "--context", "32k", "--gpus", "list"),
        ("check", "--gpus", "list"),
        ("check", "absent.yaml", "--gpus", "LIST"),
        ("fit", "--gpus", "list"),
        ("fit", "x", "--gpus", "24GiB", "--gpus", "list"),
        ("fit", "x", "--card", "list"),
        ("compare", "--gpus", "list"),
        ("diff", "--gpus", "list"),
        ("graph", "--gpus", "list"),
    ],
    ids=" ".join,
)
def test_wherever_cards_are_named_they_can_be_listed(devplan, arguments):
    answer = devplan(*arguments)
    assert answer == devplan("gpus")


def test_a_card_that_nobody_knows(refused):
    line = refused("suggest", "Qwen/Qwen3-8B", "--gpus", "frobnicate")
    assert "no GPU named 'frobnicate'" in line and "--gpus list" in line
    assert "did you mean" not in line


def test_a_model_that_nobody_knows(refused):
    line = refused("suggest", "frobnicate", "--gpus", "24GiB")
    assert "did you mean" not in line and "`devplan models` lists" in line


def test_a_context_as_people_write_it(devplan, checkpoint):
    said = [
        devplan("suggest", checkpoint, "--gpus", "2x1GiB", "--context", text, "-o", "-").out
        for text in ("1024", "1k", "1,024", "1_024")
    ]
    assert "context_tokens: 1024" in said[0]
    assert set(said) == {said[0]}


def test_check_takes_the_same_contexts(refused, devplan, here):
    (here / "m.yaml").write_text("model: 0\nlm_head: 0\n")
    arguments = ("check", "m.yaml", "--model", "Qwen/Qwen3-8B", "--gpus", "h100x2")
    assert "input_ids [1, 32765]" in devplan(*arguments, "--context", "32k").out
    line = refused(*arguments, "--context", "32kb")
    assert "--context 32kb: give a whole number of tokens" in line
