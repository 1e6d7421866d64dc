"""Stdout is devplan's alone, stderr has its lines and no others; full or closed ones are said."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.cli.test_process import ENVIRONMENT, command

CARDS = ("--gpus", "1GiB,512MiB")

TALKATIVE = """
import ctypes, logging, os, sys, warnings
import torch
print("imported")

def talk(who):
    print(f"{who} prints")
    print(f"{who} complains", file=sys.stderr)
    sys.stdout.buffer.write(f"{who} in bytes".encode())
    warnings.warn(f"{who} warns")
    logging.getLogger(who).warning(f"{who} logs")
    os.write(1, f"{who} writes".encode())
    os.write(2, f"{who} writes".encode())
    ctypes.CDLL(None).puts(f"{who} puts".encode())

class Talking(torch.nn.Linear):
    def forward(self, x):
        talk("library")
        return super().forward(x)

def factory():
    print("factory prints")
    with torch.device("meta"):
        return torch.nn.Sequential(Talking(4, 4), Talking(4, 4))

def inputs(model, config):
    print("inputs print")
    return {"input": torch.ones(1, 4)}
"""


@pytest.fixture
def talking(tmp_path):
    """Run devplan in a process on a model that talks in every way."""
    (tmp_path / "talking.py").write_text(TALKATIVE)

    def run(*options: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            command(
                *("suggest", "talking:factory", *CARDS, "--inputs", "talking.py:inputs"), *options
            ),
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def test_what_libraries_say_reaches_neither_stdout_nor_stderr(talking):
    done = talking("--json", "-o", "m.yaml")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    # The user's own code speaks on stderr; what it calls in turn is not told from it.
    assert "factory prints" in done.stderr and "inputs print" in done.stderr
    assert "library" not in done.stderr


def test_verbose_shows_it_on_stderr_wherever_it_is_asked_for(talking):
    done = talking("--json", "--verbose", "-o", "m.yaml")
    json.loads(done.stdout)
    for said in ("library prints", "library complains", "library in bytes"):
        assert said in done.stderr


def test_one_command_in_this_process_leaves_the_streams_as_they_were(devplan, checkpoint):
    before = sys.stdout, sys.stderr
    assert devplan("suggest", checkpoint, *CARDS, "-o", "-").status == 0
    assert (sys.stdout, sys.stderr) == before


def test_who_kept_the_stream_of_a_command_writes_to_that_of_the_process_after_it(capsys):
    from devplan.io.streams import out, own_streams

    with own_streams(verbose=False):
        kept = sys.stdout
        print("dropped")
        print("own", file=out())
    print("after", file=kept)
    assert capsys.readouterr().out == "own\nafter\n"


def test_a_pipeline_is_planned_without_a_word_of_its_library(tmp_path):
    pytest.importorskip("diffusers")
    from tests.pipelines.tiny import SIZES, tiny_pipeline

    tiny_pipeline("hunyuan").save_pretrained(tmp_path / "pipeline")
    size = SIZES["hunyuan"]
    options = (*CARDS, "--context", "32", "--image-size", f"{size['height']}x{size['width']}")
    done = subprocess.run(
        command("suggest", "./pipeline", *options, "--frames", size["num_frames"], "--no-verify"),
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [("models",), ("models", "--json"), ("--help",), ("gpus",)])
def test_a_full_disk_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command(*arguments),
            stdout=full,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert done.stderr == (
        "devplan: cannot write to stdout: No space left on device; free the disk, or give -o FILE\n"
    )


@pytest.mark.parametrize("arguments", [("models",), ("--help",), ("explain", "DP301")])
def test_a_closed_stdout_is_one_line(arguments):
    done = closed(1, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("devplan: cannot write to stdout: it is closed")
    assert done.stderr.count("\n") == 1


def test_a_closed_stderr_or_stdin_does_no_harm():
    done = closed(2, "explain", "DP301")
    assert done.returncode == 0 and "DP301" in done.stdout
    assert closed(2, "explain", "DP999").stdout == ""
    assert closed(0, "explain", "-").returncode == 1


def closed(number: int, *arguments: str) -> subprocess.CompletedProcess:
    """A command with one of its descriptors closed, as ``>&-`` does."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {number}>&-', "sh", *command(*arguments)],
        capture_output=True,
        env=ENVIRONMENT,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("output", ["/dev/stdout", "-"])
def test_a_map_on_stdout_is_the_map_alone(tmp_path, checkpoint, output):
    done = subprocess.run(
        command("suggest", checkpoint, *CARDS, "-o", output),
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "\nschema: 1\n" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_arguments_that_are_not_utf_8_are_one_line(refused, place):
    arguments = ["check", "m.yaml", "--model", "m"]
    arguments[place] += "\udc80"
    assert "is not UTF-8 text" in refused(*arguments)
