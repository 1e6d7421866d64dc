"""``devplan explain`` of a pasted text, as it is typed."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from devplan.cli.app import main
from devplan.io.bounded import LOG
from tests.checks.case import HERE, model_name

TEXTS = Path(__file__).parents[1] / "diagnosis" / "texts"
BIOGPT_FILE = "transformers/models/biogpt/modeling_biogpt.py"
MAP = HERE / "cases" / "DP202_split_layer" / "map.yaml"


@pytest.fixture
def stdin(monkeypatch):
    def give(text: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))

    return give


def test_a_file(capsys):
    assert main(["explain", str(TEXTS / "indices-elsewhere.txt")]) == 0
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 100
    out = " ".join(out.split())
    for fact in (
        "DP301 device mismatch in Qwen2VLForConditionalGeneration",
        "op aten.index",
        "transformers/models/qwen2_vl/modeling_qwen2_vl.py:1489 in get_rope_index",
        "input_ids = input_ids[attention_mask[i] == 1]",
        "the installed release has",
        "devplan.patch_embeddings(model)",
        "`devplan explain DP301` says more",
    ):
        assert fact in out, fact


def test_stdin(stdin, capsys):
    stdin((TEXTS / "cuda-out-of-memory.txt").read_bytes())
    assert main(["explain", "-"]) == 0
    out = capsys.readouterr().out
    assert "DP101 out of memory in LlamaMLP" in out and "said by rank1" in out
    assert "Code asked for 1.75 GiB on cuda:1, which has less free memory." in out


def test_json(capsys):
    assert main(["explain", str(TEXTS / "indices-elsewhere.txt"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["status"]) == (1, "explained")
    (story,) = found["stories"]
    assert (story["id"], story["rule"], story["op"]) == ("indices-elsewhere", "DP301", "aten.index")
    assert story["source"]["line"] == 1489
    assert story["devices"] == ["cuda:0"]


def test_a_map_with_its_check(capsys, tmp_path):
    (tmp_path / "error.log").write_text(
        f'  File "/x/site-packages/{BIOGPT_FILE}", line 1, in forward\n'
        "    hidden_states = residual + hidden_states\n"
        "RuntimeError: Expected all tensors to be on the same device, but found at least two "
        "devices, cuda:0 and cuda:1!\n"
    )
    arguments = ["--map", str(MAP), "--model", model_name("tiny_biogpt")]
    assert main(["explain", str(tmp_path / "error.log"), *arguments]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"check finds the same code, {BIOGPT_FILE}:" in out
    assert "map.yaml:6: biogpt.layers.1.fc1: 1" in out
    assert "+ biogpt.layers.1.fc1: 0" in out


def test_what_is_not_recognised_is_said(stdin, capsys):
    stdin(b"Traceback (most recent call last):\nValueError: too many values to unpack\n")
    assert main(["explain", "-"]) == 1
    out = capsys.readouterr().out
    assert "not recognised: ValueError: too many values to unpack" in out
    stdin(b"")
    assert main(["explain", "-", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["status"] == "unknown"


def test_a_log_of_powershell(tmp_path, capsys):
    text = (TEXTS / "convolution-types.txt").read_text()
    (tmp_path / "error.log").write_bytes(text.encode("utf-16"))
    assert main(["explain", str(tmp_path / "error.log")]) == 0
    assert "patch_embeds = self.patch_embedding" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("absent.log",), "cannot read absent.log: No such file or directory"),
        (("absent.log", "--map", "m.yaml"), "cannot read absent.log"),
        (("DP301", "--json"), "cannot read DP301"),
        (("binary.log",), "binary.log is not text"),
        (("error.log", "--map", "none.yaml"), "cannot read the map none.yaml"),
        (("error.log", "--map", str(MAP)), "does not name its model; give --model"),
        (("DP999",), "no rule has the code 'DP999'"),
    ],
)
def test_unreadable_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary.log").write_bytes(b"\x00\x01\x02" * 50)
    (tmp_path / "error.log").write_text("RuntimeError: CUDA error: invalid device ordinal\n")
    assert main(["explain", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert words in said.err, said.err


def test_rules_are_still_explained(capsys):
    assert main(["explain", "dp301"]) == 0
    assert capsys.readouterr().out.startswith("DP301 device-mismatch\n")


def test_a_log_without_an_end_is_refused(monkeypatch, stdin, capsys):
    monkeypatch.setattr("devplan.io.LOG", replace(LOG, most_bytes=2**20))
    stdin(b"x\n" * 10**6)
    assert main(["explain", "-"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("devplan: the text on stdin is too large: devplan reads logs of up")
