"""A copy of the project, and processes that run its tests with the heavy libraries at hand.

Importing torch and transformers takes longer than most tests: this process imports them once, and
every run of tests is a fork of it.  The copy is where mistakes are made: also what a test starts as
a process of its own meets them there.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_HEAVY = (
    "torch",
    "torch._dynamo",
    "torch._subclasses.fake_tensor",
    "transformers.modeling_utils",
    "transformers.generation.utils",
    "transformers.models.auto.modeling_auto",
    "accelerate",
    "diffusers",
    "hypothesis",
    "pytest",
    "networkx",
    "numpy",
    "jsonschema",
)
NOTHING_FAILED, SOMETHING_FAILED, NO_TESTS, OUT_OF_TIME = 0, 1, 5, 124


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a run of tests."""

    code: int
    seconds: float

    @property
    def noticed(self) -> bool:
        """Whether something failed, be it that the tests no longer end or cannot begin."""
        return self.code not in (NOTHING_FAILED, NO_TESTS)


def import_heavy() -> None:
    """Import what most tests need, but nothing of the project."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    for name in _HEAVY:
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)


def copy_of(root: Path, where: Path) -> None:
    """Make `where` the same as the project: its files, and compiled code that is checked by hash.

    Compiled code that is checked by its date would hide a mistake of the same second and size.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    shutil.rmtree(where, ignore_errors=True)
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, where / name)
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "."],
        cwd=where,
        check=True,
    )


def run_tests(
    copy: Path, arguments: list[str], limit: float, log: Path, before: Callable[[], None] | None
) -> Outcome:
    """Run pytest in a process of its own.

    Parameters
    ----------
    limit
        Seconds after which the run is ended.
    log
        Where its output goes.
    before
        What the process does before it imports any of the project.
    """
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_pytest(copy, arguments, log, before)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        seconds = time.monotonic() - started
        if ended:
            return Outcome(code=os.waitstatus_to_exitcode(status), seconds=seconds)
        if seconds > limit:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Outcome(code=OUT_OF_TIME, seconds=seconds)
        time.sleep(0.05)


def _be_pytest(
    copy: Path, arguments: list[str], log: Path, before: Callable[[], None] | None
) -> None:
    """The rest of a child's life."""
    code = SOMETHING_FAILED
    try:
        os.setsid()
        with log.open("wb") as out:
            for stream in (1, 2):
                os.dup2(out.fileno(), stream)
        os.chdir(copy)
        os.environ["PYTHONPATH"] = str(copy)
        own = Path(__file__).parents[2]
        sys.path[:] = [str(copy), *(p for p in sys.path if p and Path(p).resolve() != own)]
        for name in [name for name in sys.modules if name.split(".")[0] == "tools"]:
            del sys.modules[name]
        if before is not None:
            before()
        import pytest

        options = ["-q", "-x", "-p", "no:cacheprovider", "-m", "not slow and not gpu"]
        code = int(pytest.main([*options, *arguments]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
