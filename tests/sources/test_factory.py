"""Factories: the user's code runs, fails and is checked as its author would expect."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from devplan.core.errors import InputError, UserCodeError
from devplan.models.resolution import resolve

from .refusal import one_line, refusal

CODE = """\
import torch
from torch import nn

def on_meta():
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))

def with_a_real_buffer():
    module = on_meta()
    module.register_buffer("positions", torch.arange(3))
    return module

class Models:
    build = staticmethod(on_meta)

def on_cpu():
    return nn.Linear(4, 4)

def nothing():
    pass

def with_argument(config, *, size=1):
    return on_meta()

def fails():
    def deeper():
        raise ValueError("the user's own\\nmistake")
    return deeper()

def leaves():
    raise SystemExit(3)

limit = 5
"""


@pytest.fixture
def user_code(tmp_path, monkeypatch) -> Path:
    """A folder with a user's package, in which devplan is run."""
    package = tmp_path / "userpkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "build.py").write_text(CODE)
    (package / "broken.py").write_text("def f(:\n    pass\n")
    (package / "needs.py").write_text("import a_package_that_is_nowhere\n")
    (package / "exits.py").write_text("raise SystemExit('usage: ...')\n")
    (package / "raises.py").write_text("def go():\n    return 1 / 0\n\ngo()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "userpkg"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["on_meta", "with_a_real_buffer", "Models.build"])
def test_a_factory_builds(user_code, name):
    source = resolve(f"userpkg.build:{name}")
    assert (source.origin, source.location, source.config) == ("factory", None, None)
    assert source.id == f"userpkg.build:{name}"
    module = source.factory()
    assert sum(p.numel() for p in module.parameters()) == 4 * 4 + 4 + 4 + 4
    assert all(p.is_meta for p in module.parameters())


def test_parameters_off_the_meta_device(user_code):
    with pytest.raises(InputError) as caught:
        resolve("userpkg.build:on_cpu").factory()
    message = one_line(caught.value)
    for fact in (
        "userpkg.build:on_cpu",
        "2 parameters",
        "weight is on cpu",
        "torch.device('meta')",
    ):
        assert fact in message


def test_no_module(user_code):
    with pytest.raises(InputError) as caught:
        resolve("userpkg.build:nothing").factory()
    assert "returned None" in one_line(caught.value)


def test_an_error_of_the_user_keeps_its_traceback(user_code):
    with pytest.raises(UserCodeError) as caught:
        resolve("userpkg.build:fails").factory()
    error = caught.value
    assert str(error) == "userpkg.build:fails raised ValueError: the user's own"
    assert isinstance(error.__cause__, ValueError)
    text = error.traceback_text
    assert text.startswith("Traceback (most recent call last):\n")
    first_frame = text.splitlines()[1]
    assert str(user_code / "build.py") in first_frame and first_frame.endswith("in fails")
    assert "in deeper" in text and "mistake" in text
    assert "devplan/models" not in text


def test_leaving_is_an_error_too(user_code):
    with pytest.raises(UserCodeError, match="SystemExit: 3"):
        resolve("userpkg.build:leaves").factory()


@pytest.mark.parametrize(
    "module, facts",
    [
        ("broken", ["SyntaxError", "broken.py", "line 1"]),
        ("needs", ["ModuleNotFoundError", "a_package_that_is_nowhere", "needs.py"]),
        ("exits", ["SystemExit", "usage"]),
        ("raises", ["ZeroDivisionError", "in go", "raises.py"]),
    ],
)
def test_an_error_while_importing_keeps_its_traceback(user_code, module, facts):
    with pytest.raises(UserCodeError) as caught:
        resolve(f"userpkg.{module}:f")
    assert f"importing userpkg.{module} raised" in str(caught.value)
    assert "\n" not in str(caught.value)
    for fact in facts:
        assert fact in caught.value.traceback_text
    for ours in ("devplan/models", "importlib"):
        assert ours not in caught.value.traceback_text


@pytest.mark.parametrize(
    "text, facts",
    [
        ("nopkg:f", ["no module 'nopkg'", "run devplan from the folder"]),
        ("nopkg.sub:f", ["no module 'nopkg'"]),
        ("userpkg.biuld:f", ["no module 'userpkg.biuld'"]),
        ("userpkg.build:on_mta", ["build.py", "'on_mta'", "did you mean on_meta"]),
        ("userpkg.build:Models.biuld", ["'Models.biuld'", "did you mean build?"]),
        ("userpkg.build:limit", ["type int", "function"]),
        ("userpkg.build:with_argument", ["(config, *, size=1)", "'config'", "without any"]),
    ],
)
def test_what_cannot_be_called(user_code, text, facts):
    message = refusal(text)
    for fact in facts:
        assert fact in message


def test_a_revision_is_for_the_hub(user_code):
    assert "factory" in refusal("userpkg.build:on_meta", revision="main")
