"""Project settings: where they are found, what they may hold, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from devplan.cli.settings import Settings, load_settings
from devplan.core.arguments import NamedInFile
from devplan.core.errors import InputError

WHOLE = """\
model: Qwen/Qwen2.5-VL-7B-Instruct
gpus: [0, 24GiB, 2xa100-80gb]
memory: 24GiB,12GiB
main: 1
reserve: 2GiB
batch: 4
context: 32_768
dtype: bfloat16
kv-dtype: float8_e4m3fn
objective: context
pin:
  model.visual: cuda:0
  lm_head: 1
no-pin: false
offload: [cpu=64GiB, disk]
output: maps/mine.yaml
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    return tmp_path


def write(folder: Path, text: str, name: str = "devplan.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_settings(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_setting_is_read(project):
    path = write(project, WHOLE)
    settings = load_settings(project)
    assert settings == Settings(
        values={
            "model": NamedInFile(text="Qwen/Qwen2.5-VL-7B-Instruct", file=settings.where("model")),
            "gpus": "0,24GiB,2xa100-80gb",
            "memory": "24GiB,12GiB",
            "main": "1",
            "reserve": "2GiB",
            "batch": 4,
            "context": 32768,
            "dtype": "bfloat16",
            "kv_dtype": "float8_e4m3fn",
            "objective": "context",
            "pin": {"model.visual": "cuda:0", "lm_head": "1"},
            "no_pin": False,
            "offload": ("cpu=64GiB", "disk"),
            "output": "maps/mine.yaml",
        },
        path=path,
        lines=settings.lines,
    )
    assert settings.where("context") == f"{path}, line 7: context"


@pytest.mark.parametrize("written", ["32k", "32K", "'32,768'", "32_768", "32768"])
def test_tokens_as_people_write_them(tmp_path, written):
    write(tmp_path, f"context: {written}\n")
    assert load_settings(tmp_path).values["context"] == 32768


def test_toml_says_the_same_as_yaml(tmp_path):
    """Both formats give the same settings, so a test of one reader is a test of both."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / ".git").mkdir()
    write(tmp_path / "a", WHOLE)
    values = yaml.safe_load(WHOLE)
    pins = values.pop("pin")
    toml = ["[tool.devplan]"]
    toml += [f"{key} = {_toml(value)}" for key, value in values.items()]
    toml += ["[tool.devplan.pin]"] + [f'"{key}" = {_toml(value)}' for key, value in pins.items()]
    write(tmp_path / "b", "\n".join(toml), "pyproject.toml")
    ours, theirs = load_settings(tmp_path / "a"), load_settings(tmp_path / "b")
    assert ours.notes == theirs.notes
    assert ours.values.keys() == theirs.values.keys()
    for name, one in ours.values.items():
        other = theirs.values[name]
        if name == "model":  # which says where it stands, too
            one, other = str(one), str(other)
        assert one == other, name


def _toml(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value) if isinstance(value, int) else f'"{value}"'


def test_nothing_is_set_where_no_file_is(project):
    write(project, "[project]\nname = 'x'\n", "pyproject.toml")
    assert load_settings(project) == Settings()


def test_an_empty_file_sets_nothing(project):
    path = write(project, "# nothing yet\n")
    assert load_settings(project) == Settings(path=path)


def test_a_parent_inside_the_project_counts_and_paths_follow_the_file(project):
    below = project / "a" / "b"
    below.mkdir(parents=True)
    write(project, "model: ./checkpoint\noutput: ./map.yaml\n")
    settings = load_settings(below)
    assert str(settings.values["model"]) == str(project / "checkpoint")
    assert settings.values["output"] == str(project / "./map.yaml")


def test_a_parent_outside_the_project_does_not_count(tmp_path):
    write(tmp_path, "batch: 2\n")
    inner = tmp_path / "inner"
    inner.mkdir()
    write(inner, "", "pyproject.toml")
    assert load_settings(inner) == Settings()


def test_without_a_project_only_the_current_folder_counts(tmp_path):
    if any((p / ".git").exists() or (p / "pyproject.toml").exists() for p in tmp_path.parents):
        pytest.skip("the folder for temporary files lies inside a project")
    write(tmp_path, "batch: 2\n")
    (tmp_path / "inner").mkdir()
    assert load_settings(tmp_path).values["batch"] == 2
    assert load_settings(tmp_path / "inner") == Settings()


def test_the_nearer_file_wins(project):
    (project / "inner").mkdir()
    write(project, "batch: 2\n")
    write(project / "inner", "batch: 3\n")
    assert load_settings(project / "inner").values["batch"] == 3


def test_with_both_files_the_yaml_wins_and_says_so(project):
    path = write(project, "batch: 2\n")
    toml = write(project, "[tool.devplan]\nbatch = 3\ncontext = 5\n", "pyproject.toml")
    settings = load_settings(project)
    assert settings.values == {"batch": 2}
    (note,) = settings.notes
    assert str(path) in note and str(toml) in note and "not used" in note


def test_a_broken_pyproject_that_is_not_about_devplan_does_not_matter(project):
    write(project, "[tool.other\n", "pyproject.toml")
    assert load_settings(project) == Settings()


REFUSED = {
    "unknown key": ("batch: 1\ncontxt: 5\n", ["line 2", "contxt", "did you mean context"]),
    "underscore": ("kv_dtype: x\n", ["line 1", "kv_dtype", "did you mean kv-dtype"]),
    "nothing near": ("zzzz: 1\n", ["zzzz", "not a setting", "model, gpus"]),
    "key that is not text": ("1: 1\n", ["line 1", "1 is not a setting"]),
    "text for a count": ("context: 32kb\n", ["line 1", "'32kb'", "whole number", "32k"]),
    "zero": ("batch: 0\n", ["batch", "0", "above 0"]),
    "true for a count": ("batch: yes\n", ["True", "whole number"]),
    "a float": ("context: 1.5\n", ["1.5", "whole number"]),
    "nothing for text": ("model:\n", ["model", "None", "give text"]),
    "text for a switch": ("no-pin: 'on'\n", ["'on'", "true or false"]),
    "unknown objective": ("objective: speed\n", ["speed", "balance, context, fewest or latency"]),
    "list of pins": ("pin: [a=b]\n", ["pin", "mapping", "cuda:0"]),
    "pin to nothing": ("pin:\n  a:\n", ["pin", "give text"]),
    "list in a list": ("gpus: [[0]]\n", ["gpus", "give text"]),
    "empty list": ("gpus: []\n", ["gpus", "[]"]),
    "remote code": ("trust-remote-code: true\n", ["line 1", "command line", "cloned project"]),
    "remote code_": ("trust_remote_code: false\n", ["cannot be set in a file"]),
    "set twice": ("batch: 1\nbatch: 2\n", ["batch is set twice", "lines 1 and 2"]),
    "pinned twice": ("pin:\n  a: '0'\n  a: '1'\n", ["a is set twice", "lines 2 and 3"]),
    "broken": ("batch: [1\ncontext: 5\n", [".yaml:2:", "not YAML"]),
    "code": ("model: !!python/object/apply:os.system ['true']\n", [".yaml:1:", "not YAML"]),
    "impossible date": ("model: 2026-13-45\n", [".yaml:1:", "'2026-13-45' is no timestamp"]),
    "no integer": ("batch: !!int x\n", [".yaml:1:", "'x' is no int"]),
    "no truth": ("tiling: !!bool x\n", [".yaml:1:", "'x' is no bool"]),
    "no binary": ("model: !!binary x\n", [".yaml:1:", "not YAML"]),
    "key that is a list": ("pin: {[a]: 0}\n", [".yaml:1:", "unhashable"]),
    "alias of itself": ("pin: &a {b: *a}\n", [".yaml:1:", "alias of itself"]),
    "merge of itself": ("&a {<<: *a}\n", [".yaml:1:", "alias of itself"]),
    "digits": (f"context: {'9' * 5000}\n", [".yaml:1:", "a number of 5000 digits"]),
    "sexagesimal": (f"context: 1{':59' * 3000}\n", [".yaml:1:", "9001 digits"]),
    "infinity": ("context: .inf\n", ["context", "whole number"]),
    "outside": ("output: ../map.yaml\n", ["leaves the folder", "--output ../map.yaml"]),
    "far outside": ("output: a/../../map.yaml\n", ["leaves the folder"]),
    "absolute": ("output: /map.yaml\n", ["leaves the folder", "--output /map.yaml"]),
    "home": ("output: ~/map.yaml\n", ["leaves the folder"]),
    "no mapping": ("- a\n", ["no mapping", "context: 8192"]),
    "control": ("batch: \x00\n", [".yaml:1:", "U+0000"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_yaml_is_refused_with_its_place_and_the_remedy(project, case):
    text, facts = REFUSED[case]
    path = write(project, text)
    message = refusal(project)
    for fact in (str(path), *facts):
        assert fact in message


def test_toml_is_refused_with_its_table(project):
    path = write(project, "[tool.devplan]\ncontxt = 5\n", "pyproject.toml")
    message = refusal(project)
    assert f"{path} [tool.devplan]" in message and "did you mean context" in message
    write(project, "[tool]\ndevplan = 5\n", "pyproject.toml")
    assert "not a table" in refusal(project)
    write(project, "[tool.devplan]\nbatch = \n", "pyproject.toml")
    assert "broken TOML" in refusal(project) and "line 2" in refusal(project)


def test_a_file_that_is_no_text_is_refused(project):
    (project / "devplan.yaml").write_bytes(b"model: \xff\n")
    assert "devplan.yaml:1: byte 0xff is not UTF-8" in refusal(project)


TEXT = st.text("ab:-./=0 \n\u00e9", max_size=6)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT


@given(
    st.dictionaries(
        st.sampled_from(["model", "gpus", "batch", "pin", "no-pin", "offload", "z\nz", "output"]),
        SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXT, SCALARS, max_size=3),
        max_size=4,
    )
)
def test_any_yaml_is_settings_or_one_line(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("settings")
    write(folder, yaml.safe_dump(content, allow_unicode=True))
    try:
        settings = load_settings(folder)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert settings.values.get("batch") == content.get("batch")
