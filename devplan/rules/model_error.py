"""Exception of the model's own code.

What it does:
    Reports the exception that ended a virtual run, where it was no device mismatch, with its place;
    also one that accelerate raised while it attached its hooks, or because no file holds a weight
    that the map places on disk.

Why it breaks:
    The model raised it by itself: inputs that it does not take, a library that is missing, a bug.
    Everything after it is unverified.

Example:
    devplan check map.yaml --images 2    # a model that takes one image

Use instead:
    inputs that the model takes: --inputs file.py:function hands over your own.

Limits:
    An exception that the model raises on one GPU too is a warning: the map is not its reason, and
    what comes after it is not verified. Example inputs and made-up values (DP903) are not the
    user's data; an exception that depends on values may not happen with real ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from devplan.core import DISK, DISPATCH, Finding, Fix, ModelError, RunRecord, Severity, parent
from devplan.rules.context import CheckContext
from devplan.rules.fixes import offload_exceptions

SEVERITY = Severity.ERROR


def check(context: CheckContext) -> Iterator[Finding]:
    seen = set()
    for run in context.runs:
        error = run.error
        if error is None or (error.type, error.message, str(error.source)) in seen:
            continue
        seen.add((error.type, error.message, str(error.source)))
        if (name := _never_saved(context, error)) is not None:
            yield _in_no_file(context, error, name)
            continue
        changed = offload_exceptions(context) if error.phase == DISPATCH else {}
        yield Finding(
            code="DP302",
            severity=Severity.WARNING if error.raised_whole else SEVERITY,
            message=_message(error),
            source=error.source,
            fix=Fix(text=_fix_text(run, changed), changed_entries=changed),
        )


def _never_saved(context: CheckContext, error: ModelError) -> str | None:
    """The weight on disk that accelerate looked for and that no file holds."""
    name = error.message.strip("'\"")
    is_weight = error.type == "KeyError" and name in context.structure.tensors
    return name if is_weight and context.device_of(name) == DISK else None


def _in_no_file(context: CheckContext, error: ModelError, name: str) -> Finding:
    module = parent(name)
    return Finding(
        code="DP302",
        severity=SEVERITY,
        message=f"accelerate finds no stored weight for {name} in {error.phase} (KeyError): the "
        "class makes that weight itself and never saves it, and the map places it on disk",
        module=module,
        source=error.source,
        entry=context.entry_of(name),
        fix=Fix(
            text=f"place {module} on a GPU or on the CPU",
            changed_entries={module: context.main_device},
        ),
    )


def _fix_text(run: RunRecord, changed: Mapping[str, str]) -> str:
    if run.error.phase != DISPATCH:
        return f"the run had {run.inputs}; give inputs that the model takes with --inputs"
    if changed:
        return "name the parts one by one: offload and an entry inside another do not go together"
    return (
        "load the model with this map and the installed accelerate; where that works, tell "
        "devplan's maintainers"
    )


def _message(error: ModelError) -> str:
    text = " ".join(error.message.split())
    if error.phase == DISPATCH:
        return f"accelerate raised {error.type} while it attached its hooks: {text}"
    where = f"{error.phase}, on one GPU too" if error.raised_whole else error.phase
    return (
        f"the model's own code raised {error.type} in {where}, which is not a device "
        f"mismatch: {text}"
    )
