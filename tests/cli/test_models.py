"""``devplan models``: the list, one model, JSON, and names that are not there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from devplan.catalog.models import load_entry, model_ids


def test_the_list_has_every_model_with_its_facts(devplan):
    answer = devplan("models")
    assert (answer.status, answer.err) == (0, "")
    lines = {line.split()[0]: line.split() for line in answer.out.splitlines() if "/" in line}
    assert set(model_ids()) <= lines.keys()
    assert lines["openai/gpt-oss-20b"] == [
        "openai/gpt-oss-20b", "GptOssForCausalLM", "exact", "20,914,757,184", "12.82",
    ]  # fmt: skip
    assert lines["Qwen/Qwen2.5-VL-72B-Instruct"][2] == "rounded"
    assert lines["iflytek/Spark-Formalizer-X1-7B"][2] == "unverified"


def test_the_list_for_programs(devplan):
    listed = json.loads(devplan("models", "--json").out)["models"]
    assert [each["id"] for each in listed] == list(model_ids())
    assert all(each["stored_bytes"] and each["parameters"] for each in listed)


def test_a_pipeline_is_stored_in_the_bytes_of_its_parts():
    """Parts have dtypes of their own: the transformer of Wan 2.2 is float32."""
    pipeline = load_entry("Wan-AI/Wan2.2-TI2V-5B")
    parts = [load_entry(part) for part in pipeline.components.values() if isinstance(part, str)]
    assert pipeline.stored_bytes == sum(part.stored_bytes for part in parts)
    assert pipeline.stored_bytes > 2 * pipeline.published_parameters


def test_the_list_needs_no_torch():
    code = (
        "import sys; from devplan.cli import main; main(['models']);"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_one_model_with_sizes_sources_and_commands(devplan):
    answer = devplan("models", "qwen3-8b")
    assert (answer.status, answer.err) == (0, "")
    for text in ("Qwen3ForCausalLM", "40,960 tokens", "8,190,735,360 (exact)", "bfloat16", "8 bit"):
        assert text in answer.out
    for source in load_entry("Qwen/Qwen3-8B").sources.values():
        assert source.split()[0] in answer.out
    assert "devplan suggest Qwen/Qwen3-8B --gpus" in answer.out


def test_sizes_are_those_that_are_planned_with(devplan):
    shown = json.loads(devplan("models", "qwen3-8b", "--json").out)
    sizes = {size["name"]: size["bytes"] for size in shown["sizes"]}
    assert sizes["float32"] == pytest.approx(2 * sizes["bfloat16"], rel=1e-6)
    planned = json.loads(
        devplan("suggest", "qwen3-8b", "--gpus", "80GiB", "--no-verify", "--json").out
    )["prediction"]["cuda:0"]
    assert planned["weights_bytes"] + planned["buffers_bytes"] == sizes["bfloat16"]


def test_packed_and_loaded_are_told_apart(devplan):
    shown = json.loads(devplan("models", "Kimi-K2-Thinking", "--json").out)
    packed, loaded = (size["bytes"] for size in shown["sizes"])
    assert packed == pytest.approx(shown["stored_bytes"], rel=1e-6)
    assert loaded > 3 * packed


def test_a_model_of_which_little_is_public_says_what_to_supply(devplan, refused):
    answer = devplan("models", "Spark-Formalizer-7B")
    assert answer.status == 0
    for text in ("SparkModel", "28.0 GB", "none of its layers", "--trust-remote-code"):
        assert text in " ".join(answer.out.split())
    line = refused("suggest", "Spark-Formalizer-7B", "--gpus", "24GiB")
    for text in ("SparkModel", "28.0 GB of float32", "config.json", "--trust-remote-code"):
        assert text in line


def test_an_unknown_name_gets_the_nearest(refused):
    assert "did you mean Qwen/Qwen3-8B" in refused("models", "qwen3-8")
    assert "`devplan models` lists them" in refused("models", "zzzzzzzz")
