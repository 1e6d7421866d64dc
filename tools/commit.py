"""Which code was measured: every page of measurements says it."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def commit() -> str:
    """The commit that is checked out, with ``-dirty`` where the code was changed since."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    told = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
    return told.stdout.strip() or "unknown"


def commits(measured: Iterable[str]) -> str:
    """The commits of many measurements, the most frequent first: ``3 at 1a2b3c4d, 1 at ...``."""
    counted = Counter(measured).most_common()
    return ", ".join(f"{number} at {name}" for name, number in counted)
