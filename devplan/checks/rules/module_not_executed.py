"""Part of the map that no run reached.

What it does:
    Names the modules that hold weights and whose forward no virtual run called.

Why it breaks:
    What did not run is not verified: a vision tower in a run with text alone, the experts that no
    token chose, a head for training.

Example:
    devplan check map.yaml --images 0      # of a vision-language model

Use instead:
    inputs that reach the module: --images 1, or --inputs file.py:function.

Limits:
    A module counts as reached when any module inside it ran, on any way through its code, or when
    one of its class did that shares its tensors (the shared embedding of an encoder-decoder).
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.checks.places import counted, listed
from devplan.checks.subject import Subject
from devplan.findings import Diagnostic, Severity
from devplan.mapfile.entries import covering_modules
from devplan.names import prefixes

SEVERITY = Severity.NOTE


def check(subject: Subject) -> Iterator[Diagnostic]:
    executed = {name for run in subject.runs for name in run.executed}
    if not executed:
        return
    graph = subject.structure.graph
    reached = {module for name in executed for module in prefixes(name)}
    reached |= _twins(reached, subject)
    # [bare tensors] have no forward; nothing can say whether they were used.
    missed = [
        block.name
        for block in graph.blocks
        if block.name in subject.structure.modules
        and block.static_bytes
        and block.name not in reached
    ]
    if not missed:
        return
    modules = covering_modules(missed, graph.names)
    yield Diagnostic(
        code="DP902",
        severity=SEVERITY,
        message=f"{listed(modules)} did not run ({counted(len(missed), 'block')}): that part of "
        "the map is unverified",
        module=modules[0],
        entry=subject.entry_of(modules[0]),
        remedy="give inputs that reach it, with --images or --inputs",
        count=len(missed),
    )


def _twins(reached: set[str], subject: Subject) -> set[str]:
    """Blocks of the class of one that ran and with tensors of its: the same thing, named twice."""
    graph = subject.structure.graph
    found = set()
    for names in graph.tied:
        ran = {graph.block(name).class_name for name in names if name in reached}
        found |= {name for name in names if graph.block(name).class_name in ran}
    return found
