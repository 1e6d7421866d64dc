"""Every name that is replaced for a run is itself again, whatever ends the run, and wherever."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

import devplan
from devplan import RunOptions
from devplan.core.errors import InternalError
from devplan.sandbox.holding import exclusive, is_held_here, patched
from devplan.virtual import patches as numbered
from devplan.virtual.patches import VirtualCard, answering, lean, past_the_modes, quiet, restored
from tests.sandbox import models
from tests.sandbox.models import Mixing, Small, map_of, meta
from tests.sandbox.names import changed, process_now

PACKAGE = Path(devplan.__file__).parent


def raises(error: BaseException):
    def during() -> None:
        raise error

    return during


def turns_everything() -> None:
    """What careless code leaves behind, before it fails."""
    torch.set_default_dtype(torch.float16)
    torch.set_grad_enabled(True)
    torch.device("meta").__enter__()
    torch.set_num_threads(3)
    nn.init.normal_ = None
    raise KeyboardInterrupt


ENDS = {
    "success": (Small, None),
    "a finding": (Mixing, None),
    "a model error": (Small, raises(ValueError("x"))),
    "an error of ours": (Small, raises(devplan.InputError("x"))),
    "Ctrl-C": (Small, raises(KeyboardInterrupt())),
    "SystemExit": (Small, raises(SystemExit(3))),
    "GeneratorExit": (Small, raises(GeneratorExit())),
    "time": (Small, models.loops),
    "time, caught": (Small, models.catches_once),
    "careless code": (Small, turns_everything),
}


def ended(how: str) -> None:
    kind, during = ENDS[how]
    model = meta(kind, 2, during)
    limit = 0.2 if how.startswith("time") else 60
    with contextlib.suppress(BaseException):
        devplan.check(model, map_of(model), options=RunOptions(timeout_s=limit))


@pytest.mark.parametrize("how", ENDS)
def test_every_name_is_itself_again(how):
    ended("success")  # libraries are imported, and keep what they replace for good
    before = process_now()
    ended(how)
    assert changed(before) == []
    thread = threading.Thread(target=ended, args=(how,))
    thread.start()
    thread.join()
    assert changed(before) == []
    model = meta(Small)
    assert devplan.check(model, map_of(model)).is_clean


def whole_run(model: nn.Module) -> None:
    """All contexts of a virtual run around nothing."""
    with contextlib.ExitStack() as undo:
        undo.enter_context(exclusive())
        undo.enter_context(lean(model))
        undo.enter_context(restored(model))
        undo.enter_context(torch.no_grad())
        undo.enter_context(answering((VirtualCard(),)))
        undo.enter_context(past_the_modes())
        undo.enter_context(numbered.cards_by_number(sys.modules["accelerate.utils.modeling"]))
        undo.enter_context(quiet())


class Interrupting:
    """A trace function that raises Ctrl-C at one line that devplan executes."""

    def __init__(self, at: int) -> None:
        self.at, self.seen = at, 0

    def __call__(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(str(PACKAGE)):
            return None
        if event == "line":
            self.seen += 1
            if self.seen == self.at:
                raise KeyboardInterrupt
        return self


def test_ctrl_c_at_any_line_of_ours():
    """At every line in turn, those that put things back included."""
    model = meta(Small, 1)
    whole_run(model)
    before, forward = process_now(), vars(model.head).copy()
    traced = sys.gettrace()
    at, num_interrupted = 0, 0
    while True:
        at += 1
        interrupting = Interrupting(at)
        try:
            sys.settrace(interrupting)
            whole_run(model)
        except KeyboardInterrupt:
            num_interrupted += 1
        finally:
            sys.settrace(traced)
        if is_held_here():  # the contexts of the run are in a cycle with its exception
            gc.collect()
        assert changed(before) == [], f"interrupted at line {at}"
        assert vars(model.head).keys() == forward.keys()
        if interrupting.seen < at:
            break
    assert num_interrupted > 100


def test_nothing_is_replaced_without_the_lock():
    with pytest.raises(InternalError, match="without the lock"), patched(torch, "compile", None):
        pass
    assert torch.compile is not None


def test_names_are_replaced_in_one_place():
    """A patch elsewhere would not hold the lock, and not be undone by its end."""
    for path in PACKAGE.rglob("*.py"):
        if "sandbox" in path.relative_to(PACKAGE).parts:
            continue
        text = path.read_text(encoding="utf-8")
        assert "mock" not in text and "setattr(torch" not in text, path
