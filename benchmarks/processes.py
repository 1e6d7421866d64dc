"""Whole processes: seconds by the clock, processor seconds and largest resident memory of each.

A small Python process starts each command and waits for it.  On Linux the peak of a process is
never less than what the process that started it held, and a benchmark itself may hold much.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_START = """
import os, sys, time
quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
start = time.perf_counter()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(child, 0)
wall_s = time.perf_counter() - start
print(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(int(status != 0))
"""
"""Imports nothing that a Python without `site` has not loaded at its start, to stay small."""
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): kilobytes but on macOS


@dataclass(frozen=True, kw_only=True)
class Run:
    """One process, ended."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def run(
    command: Sequence[str],
    folder: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Run:
    """Run a command to its end, in that folder, with these variables instead of this process's.

    Raises
    ------
    AssertionError
        The command failed; what it wrote to stderr is in the message.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _START, *command],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    wall_s, cpu_s, peak = done.stdout.split()
    return Run(wall_s=float(wall_s), cpu_s=float(cpu_s), peak_bytes=int(peak) * _PEAK_UNIT)
