"""What a run leaves behind: reports, map files, and nothing else."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from devplan.cli.app import main
from devplan.core.names import find_entry
from devplan.mapfile.read import read_map

CARDS = ("--gpus", "1GiB,512MiB")
DEFAULT_PATH = "maps/tiny-llama__1gib+512mib__b1-c256.yaml"


def test_a_plan_is_shown_and_written(devplan, checkpoint):
    answer = devplan("suggest", checkpoint, *CARDS)
    assert (answer.status, answer.err, answer.files) == (0, "", (DEFAULT_PATH,))
    for part in ("LlamaForCausalLM", "KV cache", "headroom", "Stages", "Transfers", "Certificate"):
        assert part in answer.out
    assert f"{DEFAULT_PATH} (written)" in answer.out
    assert "from_pretrained(" in answer.out
    assert f'device_map=yaml.safe_load(open("{DEFAULT_PATH}"))["device_map"]' in answer.out


def test_the_same_again_changes_nothing(devplan, here, checkpoint):
    devplan("suggest", checkpoint, *CARDS)
    text = (here / DEFAULT_PATH).read_bytes()
    answer = devplan("suggest", checkpoint, *CARDS)
    assert (answer.status, answer.err, answer.files) == (0, "", ())
    assert "(unchanged)" in answer.out
    assert (here / DEFAULT_PATH).read_bytes() == text


def test_another_map_is_not_overwritten_and_the_plan_is_shown(devplan, here, checkpoint):
    devplan("suggest", checkpoint, *CARDS)
    text = (here / DEFAULT_PATH).read_bytes()
    other = ("suggest", checkpoint, *CARDS, "--pin", "model.layers.0=1")
    answer = devplan(*other)
    assert (answer.status, answer.files) == (2, ())
    assert answer.err == (
        f"devplan: {DEFAULT_PATH} exists and holds something else; replace it with --force, or "
        "name another file with -o FILE\n"
    )
    assert f"{DEFAULT_PATH} (not written)" in answer.out and "Certificate" in answer.out
    assert (here / DEFAULT_PATH).read_bytes() == text
    answer = devplan(*other, "--json")
    assert (answer.status, json.loads(answer.out)["map_path"]) == (2, None)
    answer = devplan(*other, "--force")
    assert answer.status == 0
    assert "(replaced)" in answer.out
    assert (here / DEFAULT_PATH).read_bytes() != text


def test_a_file_that_is_no_map_is_refused_before_planning(refused, here, checkpoint, monkeypatch):
    """Also one that has the name a map would get; and only where nobody said --force."""

    def never(*_, **__):
        raise AssertionError("something was planned")

    monkeypatch.setattr("devplan.workflows.suggesting.suggest_studied", never)
    (here / "thesis.tex").write_text("precious")
    line = refused("suggest", checkpoint, *CARDS, "-o", "thesis.tex")
    assert "thesis.tex exists and is not a map that this devplan reads" in line
    (here / "maps").mkdir()
    (here / DEFAULT_PATH).write_text("precious")
    assert DEFAULT_PATH in refused("suggest", checkpoint, *CARDS)
    assert (here / DEFAULT_PATH).read_text() == "precious"


def test_a_write_that_fails_after_planning_shows_the_plan(devplan, checkpoint, monkeypatch):
    import os

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    answer = devplan("suggest", checkpoint, *CARDS)
    assert (answer.status, answer.files) == (2, ())
    assert "Certificate" in answer.out and "No space left on device" in answer.err
    assert answer.err.count("\n") == 1


def test_dash_is_pure_yaml_on_stdout(devplan, here, checkpoint):
    answer = devplan("suggest", checkpoint, *CARDS, "-o", "-")
    assert (answer.status, answer.files) == (0, ())
    (here / "map.yaml").write_text(answer.out)
    assert set(read_map(here / "map.yaml").device_map.values()) == {"cuda:0", "cuda:1"}
    assert "Certificate" in answer.err


def test_json_of_a_plan(devplan, here, checkpoint):
    answer = devplan("suggest", checkpoint, *CARDS, "--json")
    report = json.loads(answer.out)
    assert (answer.status, answer.err, report["status"]) == (0, "", "plan")
    assert answer.files == (report["map_path"],)
    written = yaml.safe_load((here / report["map_path"]).read_text())
    assert {key: report[key] for key in written} == written
    assert devplan("suggest", checkpoint, *CARDS, "--json").out == answer.out


def test_json_of_what_does_not_fit(devplan):
    answer = devplan("suggest", "Qwen/Qwen3-8B", *CARDS, "--json")
    report = json.loads(answer.out)
    assert (answer.status, answer.err, answer.files) == (1, "", ())
    assert report["status"] == "infeasible"
    assert report["proven"]
    assert report["remedies"]


def test_what_does_not_fit(devplan):
    answer = devplan("suggest", "Qwen/Qwen3-8B", *CARDS, "--context", "8192")
    assert (answer.status, answer.err, answer.files) == (1, "", ())
    for part in ("Does not fit", "8,192 tokens", "missing", "What would make it fit"):
        assert part in answer.out


# ----------------------------------------------------------------------------------- the context


def test_a_context_that_nobody_asked_for_is_no_warning(devplan, checkpoint):
    answer = devplan("suggest", checkpoint, *CARDS, "--json")
    report = json.loads(answer.out)
    assert report["workload"]["context_tokens"] == 256  # the default is 4096
    assert report["notes"] == []


def test_a_context_beyond_the_model_is_a_warning(devplan, checkpoint):
    answer = devplan("suggest", checkpoint, *CARDS, "--context", "300", "--json")
    report = json.loads(answer.out)
    assert answer.status == 0
    assert report["workload"]["context_tokens"] == 300
    assert [note for note in report["notes"] if "300" in note and "256" in note]


def test_the_default_context_of_a_long_model(devplan):
    answer = devplan("suggest", "meta-llama/Llama-3.2-3B-Instruct", "--gpus", "24GiB", "--json")
    assert json.loads(answer.out)["workload"]["context_tokens"] == 4096


# ------------------------------------------------------------------------------ the main device


def main_device_notes(answer) -> list[str]:
    return [note for note in json.loads(answer.out)["notes"] if "main device" in note]


def test_a_main_device_that_from_pretrained_does_not_honour(devplan, checkpoint):
    answer = devplan("suggest", checkpoint, *CARDS, "--main", "cuda:1", "--json")
    assert answer.files == ("maps/tiny-llama__1gib+512mib-main-1__b1-c256.yaml",)
    (note,) = main_device_notes(answer)
    assert "CUDA_VISIBLE_DEVICES=1,0" in note
    assert 'main_device="cuda:1"' in note


def test_a_main_device_that_it_honours(devplan, checkpoint):
    assert not main_device_notes(devplan("suggest", checkpoint, *CARDS, "--json"))
    alone = ("--main", "cuda:1", "--pin", "model=1", "--pin", "lm_head=1", "-o", "alone.yaml")
    assert not main_device_notes(devplan("suggest", checkpoint, *CARDS, *alone, "--json"))


# ------------------------------------------------------------------------------------- settings


def test_everything_from_the_settings(devplan, here, checkpoint):
    (here / "devplan.yaml").write_text(
        f"model: {checkpoint}\ngpus: [1GiB, 512MiB]\ncontext: 128\nbatch: 2\nkv-dtype: fp8\n"
        "objective: context\npin:\n  model.layers.0: 1\noutput: out/map.yaml\n"
    )
    answer = devplan("suggest", "--json")
    report = json.loads(answer.out)
    assert (answer.status, answer.files) == (0, ("out/map.yaml",))
    assert report["workload"] == {
        "batch": 2,
        "context_tokens": 256,  # the most that fits: the model's own limit
        "dtype": "float32",
        "kv_dtype": "float8_e4m3fn",
    }
    assert report["certificate"]["objective"] == "context"
    assert report["device_map"]["model.layers.0"] == 1
    less = ("--context", "64", "--objective", "balance", "--pin", "model.layers.0=0")
    typed = devplan("suggest", *less, "--json", "-o", "-")
    assert json.loads(typed.out)["workload"]["context_tokens"] == 64
    device_map = json.loads(typed.out)["device_map"]
    assert device_map[find_entry(device_map, "model.layers.0")] == 0


# ----------------------------------------------------------------------------------- the process


def test_no_arguments_show_the_help(devplan):
    answer = devplan()
    assert (answer.status, answer.err) == (0, "")
    assert "suggest" in answer.out
    assert answer.out == devplan("--help").out


def test_an_interrupt_leaves_one_line_and_no_file(devplan, here):
    (here / "interrupted_in_this_test.py").write_text("def build():\n    raise KeyboardInterrupt\n")
    answer = devplan("suggest", "interrupted_in_this_test:build", *CARDS)
    assert (answer.status, answer.out) == (130, "")
    assert answer.err.strip() == "devplan: interrupted"
    assert answer.files == ()


def test_the_catalogue_answers_for_a_short_name(devplan):
    answer = devplan("suggest", "Qwen3-8B", "--gpus", "24GiB", "--json", "-o", "-")
    assert json.loads(answer.out)["model"]["id"] == "Qwen/Qwen3-8B"


@pytest.mark.skipif(sys.platform == "win32", reason="no file descriptors of a closed pipe")
def test_a_reader_that_goes_away_is_no_traceback(here, checkpoint, monkeypatch, capfd):
    class Gone:
        encoding = "utf-8"

        def isatty(self):
            return False

        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

        def fileno(self):
            return Path(here / "sink").open("w").fileno()

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Gone())
        status = main(["suggest", str(checkpoint), *CARDS])
    assert status != 0
    assert capfd.readouterr().err == ""


def test_nothing_but_the_report_for_a_diffusers_model(devplan):
    pytest.importorskip("diffusers")
    answer = devplan("suggest", "Wan-AI/Wan2.2-TI2V-5B/transformer", "--gpus", "24GiB,12GiB")
    assert (answer.status, answer.err, len(answer.files)) == (0, "", 1)
    assert 'subfolder="transformer"' in answer.out


def test_code_that_comes_with_a_model_is_reached_through_its_auto_class(devplan):
    answer = devplan("suggest", "openbmb/MiniCPM-V-4_5", "--gpus", "24GiB,12GiB")
    assert answer.status == 0
    assert "from transformers import AutoModel\n" in answer.out
    assert "trust_remote_code=True" in answer.out
    assert "not run: the model's own code is not available" in " ".join(answer.out.split())


def test_the_sum_of_a_card_is_explained_part_by_part(devplan, checkpoint):
    answer = devplan("suggest", checkpoint, *CARDS, "--explain")
    _, title, shown = answer.out.partition("What each GPU holds (GiB)\n")
    assert title
    parts = shown.split("  cuda:")[1:]
    assert [part[0] for part in parts] == ["0", "1"]
    for part in parts:
        lines = re.findall(r"^ +(<?[\d.]+)  ([a-zA-Z ,]+)", part, re.MULTILINE)
        names = [name for _, name in lines]
        for name in ("weights", "activations", "reserve, CUDA context", "headroom"):
            assert name in names
        assert names[-1].startswith("at the fullest moment")
        total = sum(float(size) for size, _ in lines[:-1] if not size.startswith("<"))
        capacity = {"0": 1.0, "1": 0.5}[part[0]]
        assert abs(total - capacity) < 0.01 * len(lines)
        assert "prefill: " in part and "decode: " in part


def test_python_writes_the_map_that_the_command_writes(devplan, here, checkpoint):
    import devplan as library

    devplan("suggest", checkpoint, *CARDS)
    found = library.suggest(checkpoint, CARDS[1])
    library.write_map(found.map_file, DEFAULT_PATH)  # which refuses to replace another
    assert library.read_map(DEFAULT_PATH) == found.map_file


# ------------------------------------------------------------------ reports in files and on stdout


@pytest.fixture
def bare_map(here) -> str:
    (here / "map.json").write_text('{"": 0}')
    return "map.json"


@pytest.mark.parametrize("target", ["folder", "file/report", "/dev/full", "pipe"])
def test_a_report_that_cannot_be_written(refused, here, checkpoint, bare_map, target):
    import os

    (here / "file").write_text("")
    (here / "folder").mkdir()
    os.mkfifo(here / "pipe")
    checked = ("check", bare_map, "--model", checkpoint, "--gpus", "1GiB")
    assert f"cannot write {target}: " in refused(*checked, "-o", target)


def test_a_baseline_is_whole_or_as_it_was(refused, here, checkpoint, bare_map, monkeypatch):
    import os

    def fail(_):
        raise OSError(28, "No space left on device")

    (here / "baseline.json").write_text("precious")
    monkeypatch.setattr(os, "fsync", fail)
    checked = ("check", bare_map, "--model", checkpoint, "--gpus", "1GiB")
    line = refused(*checked, "--write-baseline", "--baseline", "baseline.json")
    assert "No space left on device; name another file with --baseline FILE" in line
    assert (here / "baseline.json").read_text() == "precious"


def test_dash_is_stdout_for_reports_too(devplan, checkpoint, bare_map):
    checked = ("check", bare_map, "--model", checkpoint, "--gpus", "1GiB", "--format", "json")
    plain = devplan(*checked)
    dashed = devplan(*checked, "-o", "-")
    assert (dashed.out, dashed.files) == (plain.out, ()) and json.loads(dashed.out)


def test_a_name_of_stdout_is_stdout(checkpoint, bare_map, here):
    """A file that stdout goes to is not moved away under the rest of the report."""
    import os
    import subprocess

    command = [sys.executable, "-m", "devplan", "check", bare_map, "--model", str(checkpoint)]
    command += ["--gpus", "1GiB", "--format", "json", "-o", "/dev/stdout"]
    root = str(Path(__file__).parents[2])
    with open(here / "log.txt", "w") as log:
        subprocess.run(command, env={**os.environ, "PYTHONPATH": root}, stdout=log, timeout=120)
    assert json.loads((here / "log.txt").read_text())
