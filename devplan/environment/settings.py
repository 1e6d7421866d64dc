"""Settings of this process that change what a map means, whichever map it is.

``CUDA_VISIBLE_DEVICES`` decides which GPU ``cuda:0`` is; the others change how memory is handed
out, or how many processes load the map.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from devplan.core import Difference, Environment, InputError, Severity
from devplan.environment.visibility import VARIABLE, read_visibility
from devplan.io import SETTINGS, load_yaml, read_text

HIDDEN = "DP511"
IN_THE_WAY = "DP512"

_ORDER = "CUDA_DEVICE_ORDER"
_BY_BUS = "PCI_BUS_ID"
_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
_UNCACHED = "PYTORCH_NO_CUDA_MEMORY_CACHING"
_TRUE = ("1", "true", "yes", "on", "y", "t")


def visibility_differences(environment: Environment) -> Iterator[Difference]:
    """What ``CUDA_VISIBLE_DEVICES`` and the order of the cards make of ``cuda:N``."""
    if environment.visible is not None:
        yield from _visible(environment)
    yield from _order(environment)


def _visible(environment: Environment) -> Iterator[Difference]:
    known = len(environment.driver_cards) or None
    seen = read_visibility(environment.visible, known)
    setting = f"{VARIABLE}={environment.visible}"
    if seen.problem:
        yield _hidden(
            Severity.WARNING,
            f"{setting} {seen.problem}",
            environment,
            f"unset {VARIABLE}, or name each GPU once: {VARIABLE}=0,1",
        )
    hidden = len(environment.driver_cards) - len(environment.cards)
    if hidden > 0 and not seen.problem:
        yield _hidden(
            Severity.NOTE,
            f"{setting} hides {hidden} of the {len(environment.driver_cards)} GPUs of this machine",
            environment,
        )
    if seen.is_renumbering:
        meaning = ", ".join(f"cuda:{place} is {item}" for place, item in enumerate(seen.items))
        yield _hidden(
            Severity.NOTE,
            f"{setting}: in a map {meaning if len(seen.items) < 9 else 'numbers count its items'}",
            environment,
        )


def _hidden(
    severity: Severity, message: str, environment: Environment, remedy: str = ""
) -> Difference:
    return Difference(
        code=HIDDEN,
        severity=severity,
        subject=VARIABLE,
        message=message,
        present=environment.visible,
        remedy=remedy,
    )


def _order(environment: Environment) -> Iterator[Difference]:
    """CUDA numbers the fastest first, nvidia-smi by bus: they differ on unequal cards only."""
    if environment.variables.get(_ORDER) == _BY_BUS or environment.visible is not None:
        return
    moved = [
        (card.device, card.driver_index)
        for card in environment.cards
        if card.driver_index is not None and card.device != f"cuda:{card.driver_index}"
    ]
    if moved:
        words = ", ".join(f"{device} is GPU {index} of nvidia-smi" for device, index in moved)
        yield Difference(
            code=HIDDEN,
            severity=Severity.NOTE,
            subject=_ORDER,
            message=f"{words}: CUDA numbers the fastest card first",
            remedy=f"{_ORDER}={_BY_BUS} gives both the same numbers",
        )


def settings_in_the_way(environment: Environment) -> Iterator[Difference]:
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


def _accelerate(environment: Environment) -> Iterator[Difference]:
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
    severity: Severity, subject: str, message: str, present: str, remedy: str = ""
) -> Difference:
    return Difference(
        code=IN_THE_WAY,
        severity=severity,
        subject=subject,
        message=message,
        present=present,
        remedy=remedy,
    )
