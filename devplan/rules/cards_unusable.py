"""Cards that torch cannot use.

What it does:
    Finds a build of torch without CUDA on a machine with cards, a driver that is too old for the
    CUDA that torch was built with, and a card whose architecture torch has no code for.

Why it breaks:
    torch.cuda.is_available() is False, and "auto" puts everything on the CPU; or the first kernel
    fails with "no kernel image is available for execution on the device". A driver of the same
    major CUDA that is older than torch's CUDA is a warning: code that is compiled at its first use
    may fail.

Example:
    pip install torch        # on Windows: a build for the CPU

Use instead:
    the build of torch for your driver: https://pytorch.org/get-started/locally/

Limits:
    ROCm builds are not judged. What the package cuda-compat makes possible counts as possible,
    since torch then sees the cards.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Severity
from devplan.rules.context import CheckContext
from devplan.rules.environment import found_here

SEVERITY = Severity.ERROR


def check(subject: CheckContext) -> Iterator[Finding]:
    yield from found_here(subject, code="DP508")
