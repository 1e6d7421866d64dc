"""The types of the public names, as mypy and pyright show them to a user."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import devplan

SCRIPT = Path(__file__).with_name("users_script.py")
ROOT = SCRIPT.parent.parent
OF_OTHERS = {"Any", "bool", "dict", "int", "None", "str", "tuple"}


def public_functions():
    names = [name for name in devplan.__all__ if inspect.isfunction(getattr(devplan, name))]
    return [(name, getattr(devplan, name)) for name in names]


@pytest.mark.parametrize(("name", "function"), public_functions())
def test_what_a_public_function_returns_is_public(name, function):
    returned = re.findall(r"\w+", str(inspect.signature(function).return_annotation))
    assert {*returned} <= OF_OTHERS | {*devplan.__all__}


def test_every_public_type_says_what_it_is():
    for name in devplan.__all__:
        each = getattr(devplan, name)
        if inspect.isclass(each):
            said = inspect.getdoc(each) or ""
            assert said and not said.startswith(f"{name}("), name


def test_the_script_uses_every_public_name():
    text = SCRIPT.read_text(encoding="utf-8")
    unused = [name for name in devplan.__all__ if not re.search(rf"devplan\.{name}\b", text)]
    assert not unused


def test_a_users_script_is_strictly_typed(tmp_path):
    pytest.importorskip("mypy")
    arguments = ["--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path), str(SCRIPT)]
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments],
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout
