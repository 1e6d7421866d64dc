"""What was asked for: the command line, and behind it the settings of the project.

An option that was typed wins over ``devplan.yaml`` or ``[tool.devplan]``; what neither says has
its default here.  An error in a value that came from the settings names the file and the key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devplan.errors import InputError, nearest
from devplan.machine import parse_gpus
from devplan.settings import Settings
from devplan.types import Machine, Workload

DEFAULT_CONTEXT = 4096
DEFAULT_BATCH = 1
OBJECTIVES = ("balance", "context", "fewest")
LARGEST_BATCH = 2**20
LARGEST_CONTEXT = 2**30


@dataclass(frozen=True, kw_only=True)
class Typed:
    """The options of ``devplan suggest`` as typed; None where they were not."""

    model: str | None = None
    gpus: str | None = None
    memory: str | None = None
    main: str | None = None
    reserve: str | None = None
    batch: int | None = None
    context: int | None = None
    dtype: str | None = None
    kv_dtype: str | None = None
    objective: str | None = None
    pin: Sequence[str] = ()
    no_pin: bool | None = None
    offload: Sequence[str] = ()
    output: str | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be planned, checked as far as that is possible without the model."""

    model: str
    machine: Machine
    workload: Workload
    objective: str
    pins: Mapping[str, str]
    default_pins: bool
    output: str | None
    notes: tuple[str, ...]


def read_options(typed: Typed, settings: Settings) -> Asked:
    """Join what was typed with the settings of the project.

    Raises
    ------
    InputError
        For a missing model or machine, and for values that cannot be.
    """
    model = typed.model or settings.model
    if model is None:
        raise InputError(
            "no model: name one (devplan suggest MODEL --gpus ...), or set model in devplan.yaml"
        )
    gpus = typed.gpus or settings.gpus
    if gpus is None:
        raise InputError(
            "no machine: give --gpus, such as --gpus 0,1 for local GPUs or --gpus 24GiB,12GiB "
            "for others, or set gpus in devplan.yaml"
        )
    return Asked(
        model=model,
        machine=_machine(gpus, typed, settings),
        workload=_workload(typed, settings),
        objective=_objective(typed.objective or settings.objective or "balance"),
        pins=_pins(typed, settings),
        default_pins=not _first(typed.no_pin, settings.no_pin, False),
        output=typed.output or settings.output,
        notes=settings.notes,
    )


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _machine(gpus: str, typed: Typed, settings: Settings) -> Machine:
    # A machine that was typed is a machine of its own: the project's memory, reserve and main
    # device belong to the project's cards.
    own = Settings() if typed.gpus else settings
    with _named(settings, "gpus", typed.gpus is None):
        return parse_gpus(
            gpus,
            memory=typed.memory or own.memory,
            reserve=typed.reserve or own.reserve,
            main=typed.main or own.main,
            offload=tuple(typed.offload) or settings.offload or (),
        )


def _workload(typed: Typed, settings: Settings) -> Workload:
    batch = _first(typed.batch, settings.batch, DEFAULT_BATCH)
    context = _first(typed.context, settings.context, DEFAULT_CONTEXT)
    if not 1 <= batch <= LARGEST_BATCH:
        raise InputError(f"--batch {batch}: give a number of sequences from 1 to {LARGEST_BATCH:,}")
    if not 1 <= context <= LARGEST_CONTEXT:
        raise InputError(
            f"--context {context}: give a number of tokens per sequence, from 1 to "
            f"{LARGEST_CONTEXT:,}"
        )
    return Workload(
        batch=batch,
        context_tokens=context,
        dtype=typed.dtype or settings.dtype,
        kv_dtype=typed.kv_dtype or settings.kv_dtype,
    )


def _objective(objective: str) -> str:
    if objective not in OBJECTIVES:
        raise InputError(
            f"--objective {objective!r} is none of {', '.join(OBJECTIVES)}"
            f"{nearest(objective, OBJECTIVES)}"
        )
    return objective


def _pins(typed: Typed, settings: Settings) -> dict[str, str]:
    pins = dict(settings.pin or {})
    own: dict[str, str] = {}
    for text in typed.pin:
        module, equals, device = text.rpartition("=")
        if not equals or not module or not device:
            raise InputError(f"--pin {text!r}: write MODULE=DEVICE, such as --pin lm_head=cuda:1")
        if own.get(module, device) != device:
            raise InputError(
                f"--pin {module}={own[module]} and --pin {module}={device} contradict each other; "
                "keep one"
            )
        own[module] = device
    return {**pins, **own}


@contextlib.contextmanager
def _named(settings: Settings, key: str, from_settings: bool) -> Iterator[None]:
    """Put the place of a setting before an error in its value."""
    try:
        yield
    except InputError as error:
        if from_settings and settings.path is not None:
            raise InputError(f"{settings.where(key)}: {error}") from error
        raise
