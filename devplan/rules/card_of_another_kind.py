"""Card of another kind.

What it does:
    Compares the names of the cards with those of the map, and their compute capability with that of
    the planned kind. Where the map is locked, also whether it is the very card (a note).

Why it breaks:
    What fits still runs, but in other times; an older architecture may lack a dtype (bfloat16
    before 8.0, float8 before 8.9) or a kernel that the model asks for.

Example:
    the map is for an a100-80gb, cuda:0 is a Tesla V100-SXM2-32GB

Use instead:
    the map that `devplan suggest MODEL --gpus 0,1 ...` writes on this machine.

Limits:
    A map for a bare size (24GiB) takes any card of that size. Which dtypes and kernels the model
    really asks for is not looked up.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Severity
from devplan.rules.context import CheckContext
from devplan.rules.environment import found_here

SEVERITY = Severity.WARNING


def check(subject: CheckContext) -> Iterator[Finding]:
    yield from found_here(subject, code="DP506")
