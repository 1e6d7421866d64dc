"""``--quantize`` on the command line and in Python: what is counted, and what is refused."""

from __future__ import annotations

import json

import pytest

import devplan
from devplan.cli.app import main
from devplan.core.errors import InputError
from devplan.core.quantize import read_quantize
from devplan.mapfile.read import read_map
from devplan.models.source import ModelSource
from devplan.profile.variants import quantized_source
from tests.loader import checkpoints


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("quantize") / "model"
    checkpoints.tied_llama().save_pretrained(place)
    return place


def test_equal_configs_have_equal_texts():
    config = {"load_in_4bit": True}
    assert read_quantize("quantize", config) == read_quantize("quantize", "4bit") == "4bit"
    more = {**config, "bnb_4bit_quant_type": "nf4"}
    text = read_quantize("quantize", more)
    assert text == read_quantize("quantize", dict(reversed(more.items())))
    assert read_quantize("quantize", text) == text


@pytest.mark.parametrize("value", ["5bit", "{", "[]", {}, 4, {"load_in_4bit": object()}, "{1: 2}"])
def test_other_values_are_one_line(value):
    with pytest.raises(InputError) as refused:
        read_quantize("quantize", value)
    assert "\n" not in str(refused.value) and str(refused.value).startswith("quantize")


def test_a_file_is_copied_into_the_map(folder, tmp_path, capsys):
    file, path = tmp_path / "nf4.json", tmp_path / "map.yaml"
    config = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    file.write_text(json.dumps(config))
    words = ["suggest", folder, "--gpus", "1GiB", "--context", "32", "-o", path]
    assert main([*map(str, words), "--quantize", str(file)]) == 0
    assert "quantization_config={" in capsys.readouterr().out
    model = read_map(path).model
    assert model.quantization == "bitsandbytes_4bit"
    assert json.loads(model.quantize) == {**config, "quant_method": "bitsandbytes"}
    assert main(["check", str(path)]) == 0
    path.write_text(path.read_text().replace("load_in_4bit", "load_in_[", 1))
    edited = path.read_text().replace("quantize: ", "quantize: 5bit # ", 1)
    path.write_text(edited)
    capsys.readouterr()
    assert main(["check", str(path)]) == 2
    assert "5bit" in capsys.readouterr().err


def test_what_fit_ranks_can_be_planned(folder):
    work = devplan.Workload(context=32)
    rows = devplan.fit(str(folder), ["1GiB"], workload=work).rows
    row = next(row for row in rows if row.quantize == "4bit")
    found = devplan.suggest(str(folder), "1GiB", work, quantize="4bit")
    assert sum(load.weight_bytes for load in found.map_file.loads) == row.weight_bytes
    assert found.map_file.loads == row.asked.plan.loads
    only = devplan.fit(str(folder), ["1GiB"], workload=work, quantize="4bit").rows
    assert [each.quantize for each in only] == ["4bit"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--quantize", "4bits"], "did you mean"),
        (["--quantize", "no-such.json"], "no-such.json"),
        (["--quantize", "4bit", "--offload", "cpu"], "--offload do not go together"),
        (["--quantize", "4bit", "--packed"], "leave one of them out"),
        (["--quantize", '{"quant_method": "gptq", "bits": 4}'], "quantized already"),
    ],
)
def test_bad_input_is_one_line(folder, options, said, capsys):
    assert main(["suggest", str(folder), "--gpus", "1GiB", *options]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in " ".join(lines)


def test_offload_is_not_offered_where_it_is_refused(folder):
    work, room = devplan.Workload(context=32), devplan.parse_gpus("256MiB", reserve="255.9MiB")
    told = devplan.suggest(str(folder), room, work, quantize="4bit").result.remedies
    assert told and not any("--offload" in remedy.change for remedy in told)


def test_a_factory_is_refused():
    source = ModelSource(id="m:f", origin="factory", location=None, library="transformers")
    with pytest.raises(InputError, match="only from_pretrained quantizes; leave --quantize out"):
        quantized_source(source, "4bit")
