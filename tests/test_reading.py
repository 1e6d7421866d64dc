"""Files that are given are read up to stated bounds, and what exceeds one is refused at once."""

from __future__ import annotations

import math
import os
import re
import socket
import time
from pathlib import Path

import pytest

from devplan import io as reading
from devplan.core.errors import InputError
from devplan.io import json_input as json_text
from devplan.io import yaml_input as yaml_text
from devplan.io.bounded import CONFIG, INDEX, MAP

SECONDS = 10


def refusal(call, *arguments) -> str:
    """The one line with which it is refused, in time."""
    began = time.monotonic()
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert time.monotonic() - began < SECONDS
    text = str(caught.value)
    assert "\n" not in text
    return text


def named_pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def too_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(95 * 2**20)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (named_pipe, "it is a named pipe"),
        (listening, "No such device or address"),
        (Path.mkdir, "it is a folder; give a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.symlink_to("nowhere"), "No such file"),
        (too_large, "devplan reads maps of up to 4 MiB"),
    ],
    ids=["pipe", "socket", "folder", "device", "loop", "dangling", "large"],
)
def test_only_regular_files_of_bounded_size_are_read(tmp_path, monkeypatch, make, said):
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    make(Path("given"))
    text = refusal(reading.read_text, "given", MAP)
    assert "given" in text and said in text


@pytest.mark.parametrize("name", ["x" * 5000, "x/" * 3000, "a\0b"], ids=["long", "deep", "null"])
def test_names_that_no_file_can_have(name):
    refusal(reading.read_text, name, CONFIG)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 1_000_000, "not YAML|nested too deeply"),
        (f"[{'1,' * 2_000_000}1]", "more than 100,000 names and values"),
        ("{a: " * 200 + "1" + "}" * 200, "more than 100 levels"),
        (f"a: {'9' * 5000}", "a number of 5000 digits"),
        (f"a: 0x{'f' * 5000}", "a number of 5002 digits"),
        ("a: &a [*a]", "alias of itself"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(
                f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n"
                for old, new in zip("abcdefgh", "bcdefghi", strict=True)
            ),
            "by its aliases",
        ),
        ("a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 20_000)), ""),
        ("a: 1\n" * 40_000 + "\n b: [", "not YAML"),
        ("\ud800: 1", "not YAML"),
    ],
)
def test_yaml_beyond_a_bound(text, said):
    assert re.search(said, refusal(reading.load_yaml, text, "x"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 1_000_000, "more than 100 levels"),
        ('{"a":' * 150 + "1" + "}" * 150, "more than 100 levels"),
        (f"[{'{},' * 3_000_000}1]", "more than 2,000,000 values"),
        ("9" * 5000, "a number of 5000 digits"),
        ('["\\ud800"]', "half of a surrogate pair"),
    ],
)
def test_json_beyond_a_bound(text, said):
    assert said in refusal(reading.parse_json, text, "x")


def test_what_is_within_the_bounds_is_read():
    assert reading.parse_json('["\\ud83d\\ude00", -5, {}]', "x") == [
        "\U0001f600",
        -5,
        {},
    ]
    assert reading.parse_json("9" * 100, "x") == int("9" * 100)
    assert reading.load_yaml("a: &a [1]\nb: {<<: {c: *a}}", "x") == {"a": [1], "b": {"c": [1]}}


def test_floats_that_json_has_no_word_for_are_read_as_transformers_writes_them():
    from transformers import BambaConfig

    written = BambaConfig(time_step_limit=(0.0, math.inf)).to_json_string()
    assert "__float__" in written
    assert reading.parse_json(written, "x")["time_step_limit"] == [0.0, math.inf]
    text = (
        '[{"__float__": "-Infinity"}, {"__float__": "NaN"}, {"__float__": "x"}, {"__float__": 1}]'
    )
    low, none, *others = reading.parse_json(text, "x")
    assert low == -math.inf and math.isnan(none)
    assert others == [{"__float__": "x"}, {"__float__": 1}]


def test_the_bounds_are_stated():
    stated = (Path(__file__).parents[1] / "docs" / "limits.md").read_text(encoding="utf-8")
    for kind in (reading.MAP, reading.SETTINGS, reading.BASELINE, CONFIG, INDEX, reading.LOG):
        assert f"{kind.plural} of up to {kind.most_bytes // 2**20} MiB" in stated
    for bound in (json_text.MOST_VALUES, json_text.MOST_LEVELS, yaml_text.MOST_VALUES):
        assert f"{bound:,}" in stated
