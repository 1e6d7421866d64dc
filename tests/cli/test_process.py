"""What only a process of its own can show."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

CARDS = ("--gpus", "1GiB,512MiB")
HEAVY = ("torch", "transformers", "numpy", "huggingface_hub", "accelerate", "networkx")


ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "devplan", *map(str, arguments)]


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from devplan.cli import main; status = main(['suggest', '--help']); "
        f"print(status, sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert "--gpus" in done.stdout
    assert done.stderr == "0 []\n"


def test_the_map_does_not_depend_on_how_strings_are_hashed(tmp_path, checkpoint):
    texts = []
    for seed in ("1", "2"):
        done = subprocess.run(
            command("suggest", checkpoint, *CARDS, "-o", "-"),
            cwd=tmp_path,
            env={**ENVIRONMENT, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout)
    assert texts[0] == texts[1]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo terminals here")
def test_a_terminal_sees_progress_that_goes_away(tmp_path, checkpoint):
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        command("suggest", checkpoint, *CARDS),
        stderr=theirs,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env=ENVIRONMENT,
        text=True,
    )
    os.close(theirs)
    shown = read_all(ours)
    assert running.wait(timeout=120) == 0
    assert "Certificate" in running.stdout.read()
    # A step may be over before the line is drawn again: it is drawn ten times a second.
    assert any(step in shown for step in ("building", "running it virtually", "placing"))
    assert "\x1b[2K" in shown, "the line is erased in the end"
    assert shown.rstrip().endswith("\x1b[?25h\r\x1b[1A\x1b[2K"), repr(shown[-80:])


def read_all(descriptor: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(descriptor, 4096)
        except OSError:  # Linux: the other end is closed
            part = b""
        if not part:
            return b"".join(parts).decode(errors="replace")
        parts.append(part)
