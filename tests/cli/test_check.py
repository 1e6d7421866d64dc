"""``devplan check`` and ``devplan explain`` as they are typed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from devplan.cli.app import main
from devplan.rules.table import RULES

ROOT = Path(__file__).parents[2]
LLAMA = str(ROOT / "tests" / "checks" / "models" / "tiny_llama")
CLEAN = """\
model.embed_tokens: 0
model.rotary_emb: 0
model.layers.0: 0
model.layers.1: 0
model.layers.2: 0
model.layers.3: 1
model.layers.4: 1
model.layers.5: 1
model.norm: 0
lm_head: 0
"""
AWAY = CLEAN.replace("embed_tokens: 0", "embed_tokens: 1").replace("lm_head: 0", "lm_head: 1")
ABSENT = CLEAN.replace(": 1", ": 2")


@pytest.fixture
def maps(tmp_path, monkeypatch):
    """A project with a clean map, one with an error and one with a warning."""
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "clean.yaml").write_text(CLEAN)
    (tmp_path / "maps" / "absent.yaml").write_text(ABSENT)
    (tmp_path / "maps" / "away.yaml").write_text(AWAY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(*arguments: str) -> int:
    return main(["check", "--model", LLAMA, "--gpus", "24GiB,12GiB", *arguments])


def test_exit_status(maps, capsys):
    assert check("maps/clean.yaml") == 0
    assert check("maps/absent.yaml") == 1
    assert check("maps/clean.yaml", "maps/absent.yaml") == 1
    assert "2 maps: 1 without errors, 1 with" in capsys.readouterr().out


def test_bad_input_is_one_line(maps, capsys):
    (maps / "maps" / "bad.yaml").write_text("- model\n")
    assert check("maps/bad.yaml") == 2
    error = capsys.readouterr().err
    assert error.startswith("devplan: maps/bad.yaml:1: holds no device map but a list")
    assert error.count("\n") == 1


def test_one_bad_map_does_not_hide_the_others(maps, capsys):
    (maps / "maps" / "bad.yaml").write_text("- model\n")
    assert check("maps/bad.yaml", "maps/absent.yaml") == 2
    shown = capsys.readouterr()
    assert "maps/bad.yaml:1" in shown.err
    assert "error DP004" in shown.out


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((), "no map: name a file"),
        (("--device-map", "auto", "m.yaml"), "both m.yaml and --device-map auto"),
        (("--device-map", "atuo"), "did you mean auto"),
        (("m.yaml", "--run", "train"), "--run 'train' is not one of auto, all, generate, forward"),
        (("m.yaml", "--format", "xml"), "--format 'xml' is none of"),
        (("m.yaml", "--timeout", "0"), "seconds above 0"),
        (("m.yaml", "--images", "-1"), "--images -1"),
        (("m.yaml", "--image-size", "448"), "height and width, such as 448x672"),
        (("m.yaml", "--ignore", "DP203"), "gives no reason"),
        (("m.yaml", "--ignore", "DP999=why"), "no rule has the code 'DP999'"),
        (("m.yaml", "--write-baseline"), "--baseline FILE"),
        (("m.yaml", "--baseline", "none.json"), "cannot read the baseline none.json"),
        (("m.yaml",), "cannot read the map m.yaml"),
        (("maps/clean.yaml", "--batch", "0"), "--batch 0"),
        (("maps/clean.yaml", "--main", "first"), "--main"),
    ],
)
def test_refused_options(maps, capsys, arguments, words):
    assert check(*arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--device-map", "auto"), "needs the GPUs; give --gpus"),
        (("maps/clean.yaml", "--memory", "24GiB"), "--memory describes GPUs"),
        (("maps/clean.yaml", "--offload", "cpu"), "--offload belongs to a machine"),
        (("maps/clean.yaml", "--main", "first"), "--main: 'first' is not a device"),
    ],
)
def test_refused_without_a_machine(maps, capsys, arguments, words):
    assert main(["check", "--model", LLAMA, *arguments]) == 2
    assert words in capsys.readouterr().err


def test_no_model(maps, capsys):
    assert main(["check", "maps/clean.yaml"]) == 2
    assert "does not name its model; give --model" in capsys.readouterr().err


def test_strict(maps):
    assert check("maps/away.yaml") == 0
    assert check("maps/away.yaml", "--strict") == 1


def test_ignore_on_the_command_line_and_in_settings(maps, capsys):
    assert check("maps/absent.yaml", "--ignore", "DP004=the third card comes in May") == 0
    (maps / "devplan.yaml").write_text("ignore:\n  DP004: the third card comes in May\n")
    assert check("maps/absent.yaml", "--format", "json") == 0
    report = json.loads("{" + capsys.readouterr().out.partition("\n{")[2])
    assert report["maps"][0]["ignored"][0]["ignored_because"] == "the third card comes in May"
    (maps / "devplan.yaml").write_text("ignore:\n  DP999: why\n")
    assert check("maps/absent.yaml") == 2
    assert "devplan.yaml, line 1: ignore: no rule has the code 'DP999'" in capsys.readouterr().err


def test_ignore_in_settings_is_a_mapping(maps, capsys):
    (maps / "devplan.yaml").write_text("ignore: [DP203]\n")
    assert check("maps/absent.yaml") == 2
    error = capsys.readouterr().err
    assert "devplan.yaml, line 1: ignore holds ['DP203']; give a mapping from code to" in error


def test_baseline(maps, capsys):
    assert check("maps/absent.yaml", "--baseline", "base.json", "--write-baseline") == 0
    assert "wrote base.json with 1 finding" in capsys.readouterr().out
    assert check("maps/absent.yaml", "--baseline", "base.json") == 0
    (maps / "maps" / "absent.yaml").write_text(f"# moved by a line\n{ABSENT}")
    assert check("maps/absent.yaml", "--baseline", "base.json") == 0
    shutil.copy("maps/absent.yaml", "maps/new.yaml")
    assert check("maps/new.yaml", "--baseline", "base.json") == 1


def test_report_in_a_file(maps, capsys):
    assert check("maps/absent.yaml", "--format", "sarif", "-o", "out/report.sarif") == 1
    report = json.loads((maps / "out" / "report.sarif").read_text())
    place = report["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "maps/absent.yaml"
    assert "error DP004" in capsys.readouterr().out


def test_auto(maps, capsys):
    assert check("--device-map", "auto", "--format", "json") in (0, 1)
    report = json.loads(capsys.readouterr().out)
    assert report["maps"][0]["map"] == "device_map='auto'"


def test_machine_of_the_settings(maps, capsys):
    (maps / "devplan.yaml").write_text("gpus: 24GiB\n")
    assert main(["check", "--model", LLAMA, "maps/clean.yaml"]) == 1
    assert "DP004" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["DP301", "dp301", "device-mismatch", "device_mismatch"])
def test_explain(capsys, text):
    assert main(["explain", text]) == 0
    page = capsys.readouterr().out
    assert page.startswith("DP301 device-mismatch\n")
    assert "Use instead" in page


def test_explain_lists_all(capsys):
    assert main(["explain"]) == 0
    page = capsys.readouterr().out
    assert all(code in page for code in RULES)


def test_explain_unknown(capsys):
    assert main(["explain", "DP309"]) == 2
    assert "no rule has the code 'DP309'; did you mean DP" in capsys.readouterr().err


def test_hook_and_action_call_the_command():
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert [hook["entry"] for hook in hooks] == ["devplan check"]
    action = yaml.safe_load((ROOT / ".github/actions/check/action.yml").read_text())
    commands = [step["run"] for step in action["runs"]["steps"]]
    assert action["runs"]["using"] == "composite"
    assert sum("devplan check $MAPS" in command for command in commands) == 2
    for command in commands:  # every step is a command that bash can read
        assert subprocess.run(["bash", "-n", "-c", command]).returncode == 0


@pytest.fixture
def own_run(maps):
    """A function of the user's that runs the model."""
    (maps / "mine.py").write_text(
        "def head_only(model, inputs):\n"
        "    hidden = model.model.embed_tokens(inputs['input_ids'])\n"
        "    return model.lm_head(hidden) * hidden.to('cuda:1').mean()\n"
    )
    return "mine.py:head_only"


def test_a_function_of_the_users_runs_the_model(own_run, capsys):
    assert check("maps/clean.yaml", "--run", own_run, "--format", "json") == 1
    seen = json.loads(capsys.readouterr().out)["maps"][0]
    assert [run["phases"] for run in seen["runs"]] == [["head_only"]]
    mismatch = next(item for item in seen["findings"] if item["code"] == "DP301")
    assert mismatch["op"] == "aten.mul.Tensor"
    assert (mismatch["source"]["file"], mismatch["source"]["line"]) == ("mine.py", 3)


def test_generate_takes_arguments(maps, capsys):
    arguments = ("--generate", "cache_implementation=static", "--generate", "max_new_tokens=5")
    assert check("maps/clean.yaml", *arguments, "--format", "json") == 0
    run = json.loads(capsys.readouterr().out)["maps"][0]["runs"][0]
    assert run["phases"] == ["prefill", *(f"decode {n}" for n in range(1, 5))]


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (("--generate", "num_beams"), ("--generate 'num_beams'", "num_beams=2")),
        (("--generate", "a=[1"), ("'a=[1'", "not valid YAML")),
        (("--run", "forward", "--generate", "a=1"), ("--run is forward",)),
        (("--run", "foward"), ("FILE.py:FUNCTION", "did you mean forward?")),
        (("--run", "absent.py:go"), ("there is no file absent.py",)),
    ],
)
def test_a_run_that_cannot_be_is_one_line(maps, capsys, arguments, facts):
    assert check("maps/clean.yaml", *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(fact in error for fact in facts)
