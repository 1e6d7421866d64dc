"""A file in the current folder that has a library's name does not run in place of the library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARIES = (
    *("accelerate", "click", "filelock", "huggingface_hub", "lazy_loader", "networkx", "numpy"),
    *("psutil", "rich", "safetensors", "tabulate", "torch", "transformers", "typing", "yaml"),
)
SCRIPT = "import sys\nfrom devplan.__main__ import script\nsys.exit(script())\n"


@pytest.fixture
def installed(tmp_path) -> Path:
    """The script as pip writes it, in a folder of its own."""
    path = tmp_path / "bin" / "devplan"
    path.parent.mkdir()
    path.write_text(SCRIPT)
    return path


@pytest.mark.parametrize("way", ["script", "module"])
@pytest.mark.parametrize("command", [("gpus",), ("suggest", "Qwen/Qwen3-8B", "--gpus", "2x12GiB")])
def test_the_library_runs_and_not_the_file(here, canary, installed, way, command):
    for name in LIBRARIES:
        (here / f"{name}.py").write_text(canary.code())
    start = [str(installed)] if way == "script" else ["-m", "devplan"]
    # [empty entry] of PYTHONPATH is the current folder, as ``PYTHONPATH=$PYTHONPATH:x`` leaves it.
    path = f"{os.pathsep}{ROOT}" if way == "script" else str(ROOT)
    done = subprocess.run(
        [sys.executable, *start, *command],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, canary.has_sung) == (0, False), done.stderr
