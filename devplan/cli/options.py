"""What was asked for: the command line, and behind it the settings of the project.

An option that was typed wins over ``devplan.yaml`` or ``[tool.devplan]``; what neither says has
its default here.  An error in a value that came from the settings names the file and the key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from devplan.cli.amounts import (
    LARGEST_BATCH,
    number_of_frames,
    number_of_images,
    read_context,
    read_image_size,
)
from devplan.cli.settings import Settings
from devplan.core import (
    DEFAULT_BATCH,
    OBJECTIVE_NAMES,
    InputError,
    Machine,
    NamedInFile,
    WorkloadRequest,
    compute_dtype_name,
    full_dtype_name,
    is_inside,
    nearest,
    parse_whole,
)
from devplan.machine import parse_gpus

# What from_pretrained calls the dtype of the checkpoint.
AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Typed:
    """The options of ``devplan suggest`` as typed; None where they were not."""

    model: str | None = None
    gpus: str | None = None
    memory: str | None = None
    main: str | None = None
    reserve: str | None = None
    links: str | None = None
    batch: str | None = None
    context: str | None = None
    dtype: str | None = None
    kv_dtype: str | None = None
    images: int | None = None
    image_size: str | None = None
    frames: int | None = None
    tiling: bool | None = None
    objective: str | None = None
    pin: Sequence[str] = ()
    no_pin: bool | None = None
    offload: Sequence[str] = ()
    output: str | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be planned, checked as far as that is possible without the model."""

    model: str | NamedInFile
    machine: Machine
    workload: WorkloadRequest
    objective: str
    pins: Mapping[str, str]
    default_pins: bool
    output: str | None
    notes: tuple[str, ...]


def read_options(typed: Typed, settings: Settings, command: str = "suggest") -> Asked:
    """Join what was typed with the settings of the project.

    Raises
    ------
    InputError
        For a missing model or machine, and for values that cannot be.
    """
    model = read_model(typed, settings, command)
    gpus = typed.gpus or settings.gpus
    if gpus is None:
        raise InputError(
            "no machine: give --gpus, such as --gpus 0,1 for local GPUs or --gpus 24GiB,12GiB "
            "for others, or set gpus in devplan.yaml"
        )
    return Asked(
        model=model,
        machine=read_machine(gpus, typed, settings),
        workload=read_workload(typed, settings),
        objective=_objective(typed.objective or settings.objective or "balance"),
        pins=_pins(typed, settings),
        default_pins=not _first(typed.no_pin, settings.no_pin, False),
        output=typed.output or settings.output,
        notes=settings.notes,
    )


def read_model(typed: Typed, settings: Settings, command: str = "suggest") -> str | NamedInFile:
    """MODEL as typed or set.

    Raises
    ------
    InputError
        When neither names one.
    """
    if typed.model:
        return typed.model
    if settings.model is None:
        raise InputError(
            f"no model: name one (devplan {command} MODEL --gpus ...), or set model in devplan.yaml"
        )
    return replace(settings.model, typed_after=f"devplan {command}")


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def read_machine(gpus: str, typed: Typed, settings: Settings) -> Machine:
    """The machine of one ``--gpus``, with what else was said about cards."""
    # A machine that was typed is a machine of its own: the project's memory, reserve and main
    # device belong to the project's cards.
    own = Settings() if typed.gpus else settings
    try:
        return parse_gpus(
            gpus,
            memory=typed.memory or own.memory,
            reserve=typed.reserve or own.reserve,
            main=typed.main or own.main,
            offload=tuple(typed.offload) or settings.offload or (),
            links=_first_or_none(typed.links, own.links),
        )
    except InputError as error:
        # Messages begin with the option that they are about; names of GPUs come with none.
        options = ("memory", "reserve", "main", "offload", "links")
        key = next((key for key in options if str(error).startswith(f"--{key}")), "gpus")
        with _named(settings, key, typed):
            raise


def read_workload(typed: Typed, settings: Settings) -> WorkloadRequest:
    """Batch, context and dtypes."""
    batch = _batch(typed, settings)
    return WorkloadRequest(
        batch=DEFAULT_BATCH if batch is None else batch,
        context_tokens=_context(typed, settings),
        dtype=_dtype(typed, settings, "dtype", compute_dtype_name),
        kv_dtype=_dtype(typed, settings, "kv_dtype", full_dtype_name),
        images=number_of_images(_first_or_none(typed.images, settings.images)),
        image_size=_image_size(typed, settings),
        frames=number_of_frames(_first_or_none(typed.frames, settings.frames)),
        tiling=_first(typed.tiling, settings.tiling, False),
    )


def _image_size(typed: Typed, settings: Settings) -> tuple[int, int] | None:
    text = _first_or_none(typed.image_size, settings.image_size)
    if text is None:
        return None
    with _named(settings, "image_size", typed):
        return read_image_size(text)


def _batch(typed: Typed, settings: Settings) -> int | None:
    value = _first_or_none(typed.batch, settings.batch)
    if value is None:
        return None
    text = str(value).strip()
    count = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
    if not 1 <= count <= LARGEST_BATCH:
        with _named(settings, "batch", typed):
            raise InputError(
                f"--batch {text or repr(text)}: give a whole number of sequences, "
                f"1 to {LARGEST_BATCH:,}"
            )
    return count


def _context(typed: Typed, settings: Settings) -> int | None:
    value = _first_or_none(typed.context, settings.context)
    if value is None:
        return None
    with _named(settings, "context", typed):
        return read_context(value)


def _dtype(typed: Typed, settings: Settings, key: str, full_name: Any) -> str | None:
    value = _first_or_none(getattr(typed, key), getattr(settings, key))
    if value is None or value.strip().lower() == AUTO:
        return None
    with _named(settings, key, typed):
        try:
            return full_name(value)
        except InputError as error:
            raise InputError(f"--{key.replace('_', '-')}: {error}") from error


def _first_or_none(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _objective(objective: str) -> str:
    if objective not in OBJECTIVE_NAMES:
        raise InputError(
            f"--objective {objective!r} is none of {', '.join(OBJECTIVE_NAMES)}"
            f"{nearest(objective, OBJECTIVE_NAMES)}"
        )
    return objective


def _pins(typed: Typed, settings: Settings) -> dict[str, str]:
    own: dict[str, str] = {}
    for text in typed.pin:
        module, device = _read_pin(text)
        if own.get(module, device) != device:
            raise InputError(
                f"--pin {module}={own[module]} and --pin {module}={device} contradict each other; "
                "keep one"
            )
        own[module] = device
    set_before = {name: _device(device) for name, device in (settings.pin or {}).items()}
    _refuse_contradictions(own, set_before, settings)
    return {**set_before, **own}


def _read_pin(text: str) -> tuple[str, str]:
    module, _, device = (part.strip() for part in text.rpartition("="))
    if not module or not device:
        raise InputError(f"--pin {text!r}: write MODULE=DEVICE, such as --pin lm_head=cuda:1")
    return module, _device(device)


def _device(text: str) -> str:
    """``1`` and ``CUDA:1`` as ``cuda:1``; whether there is such a card, the planner says."""
    text = text.strip().lower()
    return f"cuda:{parse_whole(text)}" if text.isascii() and text.isdecimal() else text


def _refuse_contradictions(
    own: Mapping[str, str], set_before: Mapping[str, str], settings: Settings
) -> None:
    """A pin that was typed replaces the project's of the same module, not one around or inside."""
    for module, device in own.items():
        for other, other_device in set_before.items():
            nested = is_inside(module, other) or is_inside(other, module)
            if nested and module != other and device != other_device and other not in own:
                raise InputError(
                    f"--pin {module}={device} contradicts {other}={other_device} of "
                    f"{settings.where('pin')}; pin {other} as well, or change the settings"
                )


@contextlib.contextmanager
def _named(settings: Settings, key: str, typed: Typed) -> Iterator[None]:
    """Put the place of a setting before an error in its value, where it was not typed."""
    try:
        yield
    except InputError as error:
        written = key.replace("_", "-")
        if not getattr(typed, key) and settings.path is not None and getattr(settings, key):
            raise InputError(f"{settings.where(written)}: {error}") from error
        raise
