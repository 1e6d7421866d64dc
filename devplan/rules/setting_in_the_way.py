"""Setting that gets in the way of a map.

What it does:
    Looks for settings of torch's allocator (PYTORCH_CUDA_ALLOC_CONF, PYTORCH_ALLOC_CONF,
    PYTORCH_NO_CUDA_MEMORY_CACHING) and of accelerate (ACCELERATE_USE_CPU, use_cpu and num_processes
    of its configuration file).

Why it breaks:
    With num_processes: 4, `accelerate launch` starts four processes, and each of them loads the
    whole map: CUDA out of memory. Without torch's cache every tensor asks the driver. Other
    allocators need another reserve than the default.

Example:
    accelerate launch serve.py      # with num_processes: 4

Use instead:
    python serve.py

Limits:
    What the settings cost is not measured: those of the allocator are notes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from devplan.core import Environment, Finding, Fix, InputError, Severity
from devplan.io import SETTINGS, load_yaml, read_text
from devplan.rules.context import CheckContext

SEVERITY = Severity.WARNING

_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
_UNCACHED = "PYTORCH_NO_CUDA_MEMORY_CACHING"
_TRUE = ("1", "true", "yes", "on", "y", "t")


def check(context: CheckContext) -> Iterator[Finding]:
    yield from context.found_here("DP512")


def settings_in_the_way(environment: Environment) -> Iterator[Finding]:
    """Settings of torch's allocator and of accelerate."""
    if environment.variables.get(_UNCACHED):
        yield _in_the_way(
            Severity.WARNING,
            _UNCACHED,
            f"{_UNCACHED} is set: every tensor asks the driver for memory, which is slow",
            environment.variables[_UNCACHED],
            f"unset {_UNCACHED}",
        )
    for name in _ALLOCATOR:
        value = environment.variables.get(name)
        if value:
            yield _in_the_way(
                Severity.NOTE,
                name,
                f"{name}={value}: {_allocator_words(value)}",
                value,
            )
    if environment.variables.get("ACCELERATE_USE_CPU", "").lower() in _TRUE:
        yield _in_the_way(
            Severity.WARNING,
            "ACCELERATE_USE_CPU",
            "ACCELERATE_USE_CPU is set: what asks accelerate for its device gets the CPU",
            environment.variables["ACCELERATE_USE_CPU"],
            "unset ACCELERATE_USE_CPU",
        )
    yield from _accelerate(environment)


def _allocator_words(value: str) -> str:
    if "cudaMallocAsync" in value:
        return "another allocator than the one that the reserve is meant for"
    if "expandable_segments:True" in value.replace(" ", ""):
        return "segments grow, so that less of the reserve is lost to them"
    return "segments of other sizes than the reserve is meant for"


def _accelerate(environment: Environment) -> Iterator[Finding]:
    """``accelerate launch`` reads its file; several processes would each load the whole map."""
    path = environment.accelerate_config
    if path is None:
        return
    content = _content(path)
    processes = content.get("num_processes")
    if content.get("use_cpu") is True:
        yield _in_the_way(
            Severity.WARNING,
            "accelerate",
            f"{path} says use_cpu: `accelerate launch` would hide the GPUs",
            "use_cpu: true",
            "start the program with python, or run `accelerate config` again",
        )
    elif isinstance(processes, int) and processes > 1:
        yield _in_the_way(
            Severity.WARNING,
            "accelerate",
            f"{path} says num_processes: {processes}: with `accelerate launch` each of them would "
            "load the whole map",
            f"num_processes: {processes}",
            "start the program with python, or with `accelerate launch --num_processes 1`",
        )


def _content(path: str) -> dict[str, Any]:
    try:
        content = load_yaml(read_text(path, SETTINGS), path)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def _in_the_way(
    severity: Severity, module: str, message: str, found: str, fix: str = ""
) -> Finding:
    return Finding(
        code="DP512",
        severity=severity,
        module=module,
        message=message,
        found=found,
        fix=Fix(text=fix),
    )
