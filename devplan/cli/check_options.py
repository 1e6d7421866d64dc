"""What ``devplan check`` was asked for: typed options, then the map, then the project's settings.

A typed option wins over what stands in the map; the settings of the project speak only where the
map says nothing, since a map that was made for a machine is checked for that machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from devplan.checker import STRATEGIES, checked_ignores, checked_run, parse_ignores
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
    DeviceMap,
    InputError,
    Machine,
    NamedInFile,
    Workload,
    WorkloadRequest,
    from_hf_device,
    nearest,
    parse_whole,
)
from devplan.io import load_yaml
from devplan.machine import parse_gpus, read_tiers


@dataclass(frozen=True, kw_only=True)
class CheckTyped:
    """The options of ``devplan check`` as typed; None where they were not."""

    maps: Sequence[str] = ()
    model: str | None = None
    gpus: str | None = None
    memory: str | None = None
    main: str | None = None
    reserve: str | None = None
    offload: Sequence[str] = ()
    run: str = "auto"
    generation: Sequence[str] = ()
    batch: int | None = None
    context: str | None = None
    images: int | None = None
    image_size: str | None = None
    frames: int | None = None
    tiling: bool = False
    packed: bool = False
    inputs: str | None = None
    device_map: str | None = None
    ignore: Sequence[str] = ()
    timeout_s: float | None = None
    full: bool = False
    here: bool = False
    """Whether this machine is compared too."""
    trust_remote_code: bool = False


@dataclass(frozen=True, kw_only=True)
class AskedCheck:
    """What is to be checked, apart from the maps themselves."""

    run: str
    generation: Mapping[str, Any]
    """Arguments of ``generate``."""
    images: int | None
    image_size: tuple[int, int] | None
    """Height and width in pixels."""
    frames: int | None
    tiling: bool
    packed: bool
    """Whether quantized weights count as they are stored, whatever the map says."""
    inputs: str | None
    """``file.py:function`` that makes the inputs."""
    timeout_s: float | None
    full: bool
    trust_remote_code: bool
    ignores: Mapping[str, str] = field(default_factory=dict)


def read_check_options(typed: CheckTyped, settings: Settings) -> AskedCheck:
    """What holds for all maps of the call.

    Raises
    ------
    InputError
        For values that cannot be.
    """
    run = checked_run(typed.run)
    if typed.generation and (run == "forward" or ":" in run):
        raise InputError(f"--generate gives arguments of generate, but --run is {run}")
    _refuse_no_map(typed)
    ignores = checked_ignores(settings.ignore or {}, settings.where("ignore"))
    return AskedCheck(
        run=typed.run,
        generation=dict(_argument(text) for text in typed.generation),
        images=number_of_images(typed.images),
        image_size=read_image_size(typed.image_size) if typed.image_size else None,
        frames=number_of_frames(typed.frames),
        tiling=typed.tiling,
        packed=typed.packed,
        inputs=typed.inputs,
        timeout_s=typed.timeout_s,
        full=typed.full,
        trust_remote_code=typed.trust_remote_code,
        ignores={**ignores, **parse_ignores(typed.ignore)},
    )


def _refuse_no_map(typed: CheckTyped) -> None:
    if typed.device_map is not None and typed.device_map not in STRATEGIES:
        raise InputError(
            f"--device-map {typed.device_map!r} is none of {', '.join(STRATEGIES)}"
            f"{nearest(typed.device_map, STRATEGIES)}; a map in a file is named without an option"
        )
    if typed.device_map and typed.maps:
        raise InputError(
            f"both {typed.maps[0]} and --device-map {typed.device_map} were given; keep one"
        )
    if not typed.maps and not typed.device_map:
        raise InputError("no map: name a file, such as maps/qwen.yaml, or give --device-map auto")


def _argument(text: str) -> tuple[str, Any]:
    """``num_beams=2`` as a name and a value; values are read as YAML."""
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise InputError(f"--generate {text!r}: write NAME=VALUE, such as num_beams=2")
    if name == "trust_remote_code":
        raise InputError(f"--generate {name} lets no code run; give --trust-remote-code itself")
    try:
        return name, load_yaml(value, "--generate")
    except InputError:
        raise InputError(f"--generate {text!r}: the value is no YAML; quote it") from None


def model_of(typed: CheckTyped, given: DeviceMap | None, settings: Settings) -> str | NamedInFile:
    """Which model a map is for.

    Raises
    ------
    InputError
        When nobody says it.
    """
    model = typed.model or (given.model if given else None) or settings.model
    if model is None:
        name = given.name if given else f"--device-map {typed.device_map}"
        raise InputError(f"{name} does not say which model it is for; give --model")
    return model


def machine_of(typed: CheckTyped, given: DeviceMap | None, settings: Settings) -> Machine | None:
    """The machine that a map is checked for; None where nobody says it."""
    if typed.gpus:
        return parse_gpus(
            typed.gpus,
            memory=typed.memory,
            reserve=typed.reserve,
            main=typed.main,
            offload=tuple(typed.offload),
        )
    for option, value in (("--memory", typed.memory), ("--reserve", typed.reserve)):
        if value is not None:
            raise InputError(f"{option} describes cards; give them with --gpus")
    machine = (given.machine if given else None) or _settings_machine(settings)
    if typed.offload:
        if machine is None:
            raise InputError("--offload belongs to a machine; give its cards with --gpus")
        machine = replace(machine, tiers=read_tiers(tuple(typed.offload)))
    return machine


def _settings_machine(settings: Settings) -> Machine | None:
    if settings.gpus is None:
        return None
    return parse_gpus(
        settings.gpus,
        memory=settings.memory,
        reserve=settings.reserve,
        main=settings.main,
        offload=settings.offload or (),
    )


def main_device_of(typed: CheckTyped) -> str | None:
    """The main device as typed."""
    if typed.main is None:
        return None
    value = _index_or_text(typed.main)
    return from_hf_device(value, where="--main")


def _index_or_text(text: str) -> int | str:
    """Digits of other scripts are a text, which names no device."""
    return parse_whole(text) if text.isascii() and text.isdecimal() else text


def workload_of(
    typed: CheckTyped, given: DeviceMap | None, settings: Settings
) -> Workload | WorkloadRequest:
    """Batch, context and dtypes that a map is checked at; what nobody says is left to the model.

    Raises
    ------
    InputError
        For numbers that cannot be.
    """
    if typed.batch is not None and not 1 <= typed.batch <= LARGEST_BATCH:
        raise InputError(f"--batch {typed.batch}: give a whole number from 1 to {LARGEST_BATCH:,}")
    context = None if typed.context is None else read_context(typed.context)
    if given is not None and given.workload is not None:
        return replace(
            given.workload,
            batch=typed.batch or given.workload.batch,
            context_tokens=context or given.workload.context_tokens,
        )
    return WorkloadRequest(
        batch=typed.batch or settings.batch or DEFAULT_BATCH,
        context_tokens=context or settings.context,
        dtype=settings.dtype,
        kv_dtype=settings.kv_dtype,
        images=settings.images,
        image_size=read_image_size(settings.image_size) if settings.image_size else None,
        frames=settings.frames,
        tiling=bool(settings.tiling),
    )
