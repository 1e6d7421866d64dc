"""Whatever a test may leave behind is found and named."""

from __future__ import annotations

import builtins
import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
import weakref
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch.overrides import TorchFunctionMode

import devplan
from devplan.checker.checking import RunOptions
from devplan.core.errors import InputError
from tests.checks.test_library import GOOD, LLAMA
from tests.leftovers import ROOT, Look

LOGGER = logging.getLogger("devplan")


@contextlib.contextmanager
def called(do, undo):
    do()
    try:
        yield
    finally:
        undo()


@contextlib.contextmanager
def a_thread():
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="forgotten")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def a_child():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        yield
    finally:
        child.communicate()


@contextlib.contextmanager
def a_file(folder):
    path = Path(folder, "left.txt")
    path.touch()
    try:
        yield
    finally:
        path.unlink()


def a_handler():
    handler = logging.NullHandler()
    return called(
        lambda: logging.root.addHandler(handler), lambda: logging.root.removeHandler(handler)
    )


def dtype(name):
    return lambda: torch.set_default_dtype(getattr(torch, name))


def device(name):
    return lambda: torch.set_default_device(name)


def timer(seconds):
    return lambda: signal.setitimer(signal.ITIMER_REAL, seconds)


LEFT = {
    "Module.__init__": lambda: mock.patch.object(torch.nn.Module, "__init__", id),
    "Module.__setattr__": lambda: mock.patch.object(torch.nn.Module, "__setattr__", id),
    "Parameter.__new__": lambda: mock.patch.object(torch.nn.Parameter, "__new__", id),
    "torch.compile": lambda: mock.patch.object(torch, "compile", id),
    "torch.cuda: is_available": lambda: mock.patch.object(torch.cuda, "is_available", id),
    "torch.nn.init: normal_": lambda: mock.patch.object(torch.nn.init, "normal_", id),
    "Distribution._validate_args": lambda: mock.patch.object(
        torch.distributions.Distribution, "_validate_args", "no"
    ),
    "number of function modes": TorchFunctionMode,
    "default device": lambda: called(device("meta"), device(None)),
    "default dtype": lambda: called(dtype("float64"), dtype("float32")),
    "grad mode": torch.no_grad,
    "inference mode": torch.inference_mode,
    "builtins: print": lambda: mock.patch.object(builtins, "print", id),
    "sys.stderr": lambda: mock.patch.object(sys, "stderr", sys.stdout),
    "sys.argv": lambda: mock.patch.object(sys, "argv", ["other"]),
    "sys.path": lambda: mock.patch.object(sys, "path", ["other", *sys.path]),
    "the environment: DEVPLAN_LEFT": lambda: mock.patch.dict(os.environ, DEVPLAN_LEFT="1"),
    "sys.modules['left_behind']": lambda: mock.patch.dict(
        sys.modules, left_behind=types.ModuleType("left_behind")
    ),
    "gc.freeze": lambda: called(gc.freeze, gc.unfreeze),
    "gc.enable": lambda: called(gc.disable, gc.enable),
    "signal: SIGUSR1": lambda: called(
        lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
        lambda: signal.signal(signal.SIGUSR1, signal.SIG_DFL),
    ),
    "timers": lambda: called(timer(1000), timer(0)),
    "logging.disable": lambda: called(
        lambda: logging.disable(logging.ERROR), lambda: logging.disable(logging.NOTSET)
    ),
    "the level of the logger devplan": lambda: called(
        lambda: LOGGER.setLevel(logging.DEBUG), lambda: LOGGER.setLevel(logging.NOTSET)
    ),
    "logging.root.handlers": a_handler,
    "thread forgotten is alive": a_thread,
    "child processes": a_child,
    f"left.txt in {ROOT}": lambda: a_file(ROOT),
    f"left.txt in {ROOT / 'maps'}": lambda: a_file(ROOT / "maps"),
    "left.txt in": lambda: a_file(tempfile.gettempdir()),
    "README.md is open": (ROOT / "README.md").open,
}


@pytest.mark.parametrize("named", LEFT)
def test_what_is_left_is_named(named, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.leftovers._PATIENCE_S", 0.1)
    scratch = tmp_path.parent.parent
    before = Look(scratch)
    with LEFT[named]():
        found = before.differences()
    assert any(each.startswith(named) or each.endswith(named) for each in found), found
    assert not before.differences()


def test_the_current_folder(tmp_path):
    before = Look(tmp_path)
    home = os.getcwd()
    with called(lambda: os.chdir(tmp_path), lambda: os.chdir(home)):
        assert any(each.startswith("the current folder") for each in before.differences())
    assert not before.differences()


def test_a_model_of_an_interrupted_check_does_not_keep_the_models_after_it(tmp_path):
    """A time limit that struck while a run replaced names left ``Module.__init__`` replaced.

    Its closure held every module that was made from then on: a model that was dropped in another
    test was still there.
    """
    devplan.check(LLAMA, GOOD)
    began = time.perf_counter()
    devplan.check(LLAMA, GOOD)
    usual_s = time.perf_counter() - began
    before = Look(tmp_path)
    for step in range(40):  # from the first moments of a run to its end, and to the build before it
        with contextlib.suppress(InputError):
            devplan.check(LLAMA, GOOD, options=RunOptions(timeout_s=usual_s * 0.05 * (1 + step)))
        assert not before.differences()
    model = torch.nn.Linear(2, 2)
    gone = weakref.ref(model)
    del model
    assert gone() is None
