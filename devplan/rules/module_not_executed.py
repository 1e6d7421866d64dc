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
    A module counts as reached when any module inside it ran, on any way through its code, when the
    code around it used a weight of it, or when all its tensors are also those of modules that ran
    (the embedding of encoder and decoder).
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, Severity, prefixes
from devplan.mapfile import covering_modules
from devplan.rules.context import CheckContext
from devplan.rules.places import counted, listed

SEVERITY = Severity.NOTE


def check(context: CheckContext) -> Iterator[Finding]:
    executed = {name for run in context.runs for name in run.executed}
    if not executed:
        return
    graph = context.structure.graph
    reached = {module for name in executed for module in prefixes(name)}
    ran = executed & set(graph.names)
    seen = set().union(*_held(context, ran).values())
    # [bare tensors] have no forward; nothing can say whether they were used.
    missed = [
        block.name
        for block in graph.blocks
        if block.name in context.structure.modules
        and block.static_bytes
        and block.name not in reached
    ]
    # [shared] all that it holds ran under another name.
    held = _held(context, set(missed))
    used = {name for run in context.runs for name in run.used}
    missed = [name for name in missed if not held[name] or held[name] - seen]
    missed = [name for name in missed if not held[name] & used]
    if not missed:
        return
    # [empty] blocks that hold nothing of their own stand in no module's way.
    modules = covering_modules(missed, [name for name in graph.names if name in {*ran, *missed}])
    yield Finding(
        code="DP902",
        severity=SEVERITY,
        message=f"{listed(modules)} did not run ({counted(len(missed), 'block')}): that part of "
        "the map is unverified",
        module=modules[0],
        entry=context.entry_of(modules[0]),
        fix=Fix(text="give inputs that reach it, with --images or --inputs"),
        count=len(missed),
    )


def _held(context: CheckContext, blocks: set[str]) -> dict[str, set[str]]:
    """Block -> its tensors, each by the first of the names that it has in the model."""
    held: dict[str, set[str]] = {name: set() for name in blocks}
    for tensor in context.structure.tensors.values():
        for module in prefixes(tensor.name):
            if module in held:
                held[module].add(tensor.first_name)
    return held
