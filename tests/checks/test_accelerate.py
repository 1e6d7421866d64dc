"""What the rules say of accelerate, asked of the installed release.

Two devices that every machine has stand for two cards: ``cpu`` and ``meta``.
"""

from __future__ import annotations

import subprocess
import sys

import accelerate
import pytest
import torch
from accelerate import dispatch_model
from accelerate.utils import check_device_map
from torch import nn

from devplan.core.devices import chosen_by_accelerate
from tools.corpus.environments import environment, variables

# accelerate says of every entry of a bare parameter that it names no module.
pytestmark = pytest.mark.filterwarnings("ignore:The following device_map keys")


class Model(nn.Module):
    """Two layers, tied or not, and a buffer that is not saved."""

    def __init__(self, *, tied: bool):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.bare = nn.Parameter(torch.zeros(4))
        self.register_buffer("table", torch.zeros(4), persistent=False)
        if tied:
            self.last.weight = self.first.weight

    def forward(self, x):
        return self.last(self.first(x) + self.bare + self.table)


def test_dp001_uncovered_parameter_is_refused_and_an_unsaved_buffer_is_not():
    with pytest.raises(ValueError, match="does not give any device for the following parameters"):
        check_device_map(Model(tied=False), {"first": "cpu", "last": "cpu"})
    check_device_map(Model(tied=False), {"first": "cpu", "last": "cpu", "bare": "cpu"})


def test_dp006_whole_model_goes_to_the_main_device():
    model = dispatch_model(Model(tied=False), {"": "meta", "last": "cpu"}, main_device="cpu")
    assert model.first.weight.device.type == "cpu"
    assert model._hf_hook.execution_device == "cpu"


def test_dp203_tied_weights_are_tied_again():
    device_map = {"first": "cpu", "last": "meta", "bare": "cpu"}
    model = dispatch_model(Model(tied=True), device_map, main_device="cpu")
    assert model.last.weight is model.first.weight
    assert model.last._hf_hook.execution_device == "meta"


def test_dp204_entry_of_a_tensor_hooks_nothing():
    device_map = {"first": "cpu", "last": "cpu", "bare": "meta"}
    model = dispatch_model(Model(tied=False), device_map, main_device="cpu")
    assert model.bare.device.type == "cpu"  # not moved: nothing visits a bare parameter
    assert model._hf_hook.execution_device == "cpu"


def test_dp402_disk_needs_a_folder():
    device_map = {"first": "cpu", "last": "disk", "bare": "cpu"}
    with pytest.raises(ValueError, match="We need an `offload_dir`"):
        dispatch_model(Model(tied=False), device_map, main_device="cpu")


CHOSEN = """
import accelerate, torch
from accelerate import big_modeling

def seen(model, *, execution_device, **more):
    print(accelerate.__version__, execution_device[""])
    raise SystemExit

big_modeling.attach_align_device_hook_on_blocks = seen
model = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(3)))
accelerate.dispatch_model(model, {"0": "cpu", "1": 1, "2": 0}, state_dict={})
"""
"""Prints which device a release takes as the main one, and ends before anything moves."""


@pytest.mark.parametrize(
    "version",
    [
        pytest.param(accelerate.__version__, id="installed"),
        *(pytest.param(old, marks=pytest.mark.slow) for old in ("0.34.2", "1.13.0", "1.14.0")),
    ],
)
def test_main_device_is_the_one_that_the_release_takes(version):
    folder = None if version == accelerate.__version__ else environment([f"accelerate=={version}"])
    done = subprocess.run(
        [sys.executable, "-c", CHOSEN],
        env=None if folder is None else variables(folder),
        capture_output=True,
        text=True,
        timeout=120,
    )
    asked, _, taken = done.stdout.strip().partition(" ")
    assert asked == version, done.stderr
    assert chosen_by_accelerate(["cpu", "cuda:1", "cuda:0"], version) == f"cuda:{taken}"
