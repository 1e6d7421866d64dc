"""How a check runs: what each option may be, and which calls follow."""

from __future__ import annotations

import pytest

from devplan.checker.run_options import WAYS, RunOptions
from devplan.core.errors import InputError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run", 3),
        ("run", "sideways"),
        ("run", "forward,batch"),
        ("generation", ["num_beams"]),
        ("request", "an image"),
        ("images", -1),
        ("images", "two"),
        ("image_size", "large"),
        ("frames", 0),
        ("tiling", "yes"),
        ("inputs", 7),
        ("full", 1),
        ("timeout_s", -1),
    ],
)
def test_what_no_option_can_be_is_refused_by_its_name(name, value):
    with pytest.raises(InputError) as refused:
        RunOptions(**{name: value})
    assert name in str(refused.value) and "\n" not in str(refused.value)


def test_options_are_kept_as_they_are_read():
    assert RunOptions(image_size=[560, 448]).image_size == (560, 448)
    assert RunOptions(image_size=(560, 448), images=0, frames=1).image_size == (560, 448)
    assert RunOptions() == RunOptions(run="auto", generation={}, full=False)


@pytest.mark.parametrize(
    ("run", "ways", "is_users"),
    [
        ("auto", WAYS, False),
        ("all", WAYS, False),
        ("generate", (), False),
        ("forward", (), False),
        ("beams,batch", ("batch", "beams"), False),
        ("loss", ("loss",), False),
        ("file.py:run", (), True),
    ],
)
def test_which_short_calls_are_made(run, ways, is_users):
    options = RunOptions(run=run)
    assert options.ways == ways and options.is_users is is_users
