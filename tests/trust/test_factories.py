"""A factory runs where a person typed it, and nowhere else."""

from __future__ import annotations

import json
import os
import string
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import devplan as api
from devplan.core.arguments import NamedInFile
from devplan.core.errors import InputError
from devplan.models.resolution import resolve

CARDS = ("--gpus", "1GiB,1GiB")
ENTRIES = {"first": 0, "second": 1}
DEVPLAN = (sys.executable, "-m", "devplan")
ROOT = Path(__file__).parents[2]

FORMS = {
    "wrapped": lambda name: {"model": name, "device_map": ENTRIES},
    "as json": lambda name: {"model": name, "hf_device_map": ENTRIES},
}
COMMANDS = {
    "check": ("check", "m.yaml", *CARDS),
    "graph": ("graph", "m.yaml"),
    "diff": ("diff", "m.yaml", "m.yaml", *CARDS),
    "explain": ("explain", "log.txt", "--map", "m.yaml"),
}
OF_FULL_MAPS = {"doctor": ("doctor", "full.yaml"), "lock": ("lock", "full.yaml")}
LOG = "RuntimeError: Cannot copy out of meta tensor; no data!\n"


def write_map(here: Path, form: str, name: str) -> None:
    content = FORMS[form](name)
    text = json.dumps(content) if form == "as json" else yaml.safe_dump(content)
    (here / "m.yaml").write_text(text)
    (here / "log.txt").write_text(LOG)


@pytest.fixture
def full(devplan, canary, here):
    """A map that devplan wrote for a factory which was typed."""
    answer = devplan("suggest", canary.factory, *CARDS, "-o", "full.yaml")
    assert answer.status == 0, answer.err
    assert canary.has_sung
    assert yaml.safe_load((here / "full.yaml").read_text())["model"]["id"] == canary.factory
    (here / "log.txt").write_text(LOG)
    canary.forget()
    return "full.yaml"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_map_that_names_a_factory_is_refused_with_what_to_type(
    refused, canary, here, form, command
):
    write_map(here, form, canary.factory)
    line = refused(*COMMANDS[command])
    assert f"m.yaml names {canary.factory}" in line
    assert f"--model {canary.factory}" in line
    assert not canary.has_sung


@pytest.mark.parametrize("command", COMMANDS | OF_FULL_MAPS)
def test_so_is_a_map_that_devplan_wrote_for_it(refused, canary, full, command):
    arguments = [full if a == "m.yaml" else a for a in (COMMANDS | OF_FULL_MAPS)[command]]
    assert f"--model {canary.factory}" in refused(*arguments)
    assert not canary.has_sung


@pytest.mark.parametrize("command", COMMANDS | OF_FULL_MAPS)
def test_with_the_flag_it_works_as_ever(devplan, canary, full, command):
    arguments = [full if a == "m.yaml" else a for a in (COMMANDS | OF_FULL_MAPS)[command]]
    answer = devplan(*arguments, "--model", canary.factory)
    assert canary.has_sung
    assert "is code" not in answer.err


def test_a_function_of_python_takes_it_from_its_caller_alone(canary, full):
    with pytest.raises(InputError, match="function of yours"):
        api.load(map=full)
    with pytest.raises(InputError, match="is code"):
        api.diff(before=full, after=full)
    assert not canary.has_sung
    assert api.check(canary.factory, full).runs
    assert canary.has_sung


@pytest.mark.parametrize("command", ["suggest", "fit", "compare"])
@pytest.mark.parametrize("file", ["devplan.yaml", "pyproject.toml"])
def test_settings_do_not_name_code(refused, canary, here, command, file):
    text = f"model: {canary.factory}\n"
    if file == "pyproject.toml":
        text = f'[tool.devplan]\nmodel = "{canary.factory}"\n'
    (here / file).write_text(text)
    line = refused(command, *CARDS)
    assert file in line
    assert f"devplan {command} {canary.factory}" in line
    assert not canary.has_sung


@pytest.mark.parametrize("file", ["devplan.yaml", "pyproject.toml"])
def test_settings_do_not_name_code_for_a_map_that_says_nothing(refused, canary, here, file):
    text = f"model: {canary.factory}\n"
    if file == "pyproject.toml":
        text = f'[tool.devplan]\nmodel = "{canary.factory}"\n'
    (here / file).write_text(text)
    (here / "bare.yaml").write_text("first: 0\nsecond: 1\n")
    for command in (("check", "bare.yaml"), ("graph", "bare.yaml"), ("diff", "bare.yaml", "auto")):
        assert f"--model {canary.factory}" in refused(*command, *CARDS)
    assert not canary.has_sung


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_name_in_a_file_is_imported_or_called(data, canary):
    """Modules that are here, of the standard library and of nobody, with any attributes."""
    modules = st.sampled_from(
        [canary.package, f"{canary.package}.code", "os", "sys", "antigravity", "this", "pytest"]
    )
    words = st.text(string.ascii_letters + "_.:", min_size=1, max_size=12)
    name = f"{data.draw(modules | words)}:{data.draw(st.sampled_from(['build', 'abort']) | words)}"
    before = set(sys.modules)
    with pytest.raises(InputError):
        resolve(NamedInFile(text=name, file="m.yaml"))
    assert not canary.has_sung
    assert {each.partition(".")[0] for each in set(sys.modules) - before} <= {"huggingface_hub"}


# ----------------------------------------------------------------------- the current folder


def test_a_factory_of_an_installed_module_sees_the_folder_no_longer_than_it_runs(canary, here):
    path = list(sys.path)
    source = resolve(canary.factory)
    assert sys.path == path
    assert source.factory() is not None
    assert sys.path == path


SHADOWS = (
    "torch",
    "yaml",
    "transformers",
    "json",
    "click",
    "typer",
    "numpy",
    "typing",
    "usercustomize",
)


def shell(here: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        arguments,
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        input="y\n",
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_no_module_of_the_current_folder_stands_in_for_a_library(canary, here, checkpoint):
    for name in SHADOWS:
        (here / f"{name}.py").write_text(canary.code())
    done = shell(here, *DEVPLAN, "suggest", str(checkpoint), *CARDS, "-o", "-")
    assert (done.returncode, canary.has_sung) == (0, False), done.stderr


def test_nor_for_the_script(canary, here):
    for name in ("click", "yaml", "rich"):
        (here / f"{name}.py").write_text(canary.code())
    start = "import sys, devplan.__main__ as main; sys.argv[1:] = ['check', 'nothing.yaml']; "
    done = shell(here, sys.executable, "-c", start + "main.script()")
    assert not canary.has_sung, done.stderr


@pytest.mark.parametrize("path", ["{root}:", ":{root}", "{root}:."])
def test_an_empty_part_of_pythonpath_is_not_the_current_folder(canary, here, path):
    for name in SHADOWS:
        (here / f"{name}.py").write_text(canary.code())
    shell(here, *DEVPLAN, "check", "nothing.yaml", PYTHONPATH=path.format(root=ROOT))
    assert not canary.has_sung
