"""Which value holds: an option that was typed, then the map, then the settings of the project.

``planned_...`` is for commands that plan: typed options, then the settings.  ``..._for_map`` is for
commands with a map: typed options override the map, and the settings count only where the map says
nothing, since a map that was made for a machine is checked for that machine.  What is given nowhere
is left to the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from devplan.cli.command import Options
from devplan.cli.values import pinned_device
from devplan.core import (
    InputError,
    Machine,
    NamedInFile,
    Workload,
    from_hf_device,
    is_inside,
    parse_whole,
)
from devplan.machine import parse_gpus, read_tiers

if TYPE_CHECKING:
    from devplan.checker import RunOptions
    from devplan.core import DeviceMap

_RUN_OPTIONS = ("run", "images", "image_size", "frames", "tiling", "inputs", "full", "timeout_s")
_WORKLOAD = ("batch", "context", "dtype", "kv_dtype", "images", "image_size", "frames", "tiling")


# ------------------------------------------------------------------------ commands that plan


def planned_model(options: Options) -> str | NamedInFile:
    """MODEL as typed or set.

    Raises
    ------
    InputError
        When neither names one.
    """
    model = options.model or options.set("model")
    if model is None:
        raise InputError(
            f"no model: name one (devplan {options.command} MODEL --gpus ...), or set model in "
            "devplan.yaml"
        )
    if isinstance(model, NamedInFile):
        return replace(model, typed_after=f"devplan {options.command}")
    return model


def planned_machine(options: Options) -> Machine:
    """The machine of ``--gpus``, typed or set.

    Raises
    ------
    InputError
        When there is none, or it cannot be.
    """
    gpus = options.gpus or options.set("gpus")
    if gpus is None:
        raise InputError(
            "no machine: give --gpus, such as --gpus 0,1 for local GPUs or --gpus 24GiB,12GiB "
            "for others, or set gpus in devplan.yaml"
        )
    return read_machine(options, gpus, is_typed=bool(options.typed("gpus")))


def read_machine(options: Options, gpus: str, *, is_typed: bool) -> Machine:
    """The machine of one ``--gpus``, with all that the options and settings say about it.

    A machine that was typed is a machine of its own: memory, reserve, main device and links in
    the settings belong to the GPUs in the settings.
    """
    of_machine = options.typed if is_typed else options.typed_or_set
    try:
        return _parsed(gpus, of_machine, options.typed_or_set("offload"), of_machine("links"))
    except InputError as error:
        # Messages begin with the option that they are about; names of GPUs come with none.
        about = ("memory", "reserve", "main", "offload", "links")
        key = next((key for key in about if str(error).startswith(f"--{key}")), "gpus")
        raise (error if key == "gpus" and is_typed else options.placed(key, error)) from error


def _parsed(
    gpus: str, value: Callable[[str], Any], offload: Any, links: str | None = None
) -> Machine:
    return parse_gpus(
        gpus,
        memory=value("memory") or None,
        reserve=value("reserve") or None,
        main=value("main") or None,
        offload=tuple(offload or ()),
        links=links,
    )


def planned_workload(options: Options) -> Workload:
    """Batch, context, dtypes and images as typed or set."""
    asked = {name: options.typed_or_set(name) for name in _WORKLOAD}
    return Workload(**{name: value for name, value in asked.items() if value is not None})


def planned_pins(options: Options) -> Mapping[str, str]:
    """Module -> device: those of the settings, and those that were typed.

    Raises
    ------
    InputError
        When two of them contradict each other.
    """
    own: dict[str, str] = {}
    for module, device in options.pins:
        if own.get(module, device) != device:
            raise InputError(
                f"--pin {module}={own[module]} and --pin {module}={device} contradict each other; "
                "keep one"
            )
        own[module] = device
    in_settings = options.set("pin") or {}
    others = {module: pinned_device(device) for module, device in in_settings.items()}
    _refuse_contradictions(own, others, options)
    return {**others, **own}


def _refuse_contradictions(
    own: Mapping[str, str], others: Mapping[str, str], options: Options
) -> None:
    """A pin that was typed replaces the project's of the same module, not one around or inside."""
    for module, device in own.items():
        for other, other_device in others.items():
            nested = is_inside(module, other) or is_inside(other, module)
            if nested and module != other and device != other_device and other not in own:
                raise InputError(
                    f"--pin {module}={device} contradicts {other}={other_device} of "
                    f"{options.settings.where('pin')}; pin {other} as well, or change the settings"
                )


# ----------------------------------------------------------------------- commands with a map


def refuse_without_map(options: Options, maps: Sequence[str]) -> None:
    """Refuse a call with neither a map nor a strategy, or with both.

    Raises
    ------
    InputError
        With the options to give.
    """
    strategy = options.device_map
    if strategy and maps:
        raise InputError(f"both {maps[0]} and --device-map {strategy} were given; keep one")
    if not maps and not strategy:
        raise InputError("no map: name a file, such as maps/qwen.yaml, or give --device-map auto")


def model_for_map(options: Options, given: DeviceMap | None) -> str | NamedInFile:
    """The model that a map is for.

    Raises
    ------
    InputError
        When nothing names it.
    """
    model = options.typed("model") or (given.model if given else None) or options.set("model")
    if model is None:
        name = given.name if given else f"--device-map {options.device_map}"
        raise InputError(f"{name} does not name its model; give --model")
    return model


def quantize_for_map(options: Options, given: DeviceMap | None) -> str | None:
    """How the weights are quantized while loading; a map of devplan's says it by being silent."""
    if options.is_typed("quantize") or (given and given.content is not None):
        return options.typed("quantize")
    return options.set("quantize")


def machine_for_map(options: Options, given: DeviceMap | None) -> Machine | None:
    """The machine that a map is checked for; None where nothing names it."""
    offload = options.typed("offload")
    if gpus := options.typed("gpus"):
        return _parsed(gpus, options.typed, offload)
    for name in ("memory", "reserve"):
        if options.is_typed(name):
            raise InputError(f"--{name} describes GPUs; give them with --gpus")
    machine = given.machine if given else None
    if machine is None and (gpus := options.set("gpus")):
        machine = _parsed(gpus, options.set, options.set("offload"))
    if offload:
        if machine is None:
            raise InputError("--offload belongs to a machine; give its GPUs with --gpus")
        machine = replace(machine, tiers=read_tiers(tuple(offload)))
    return machine


def main_device_for_map(options: Options) -> str | None:
    """The main device as typed."""
    main = options.typed("main")
    if main is None:
        return None
    # Digits of other scripts are a text, which names no device.
    is_index = main.isascii() and main.isdecimal()
    return from_hf_device(parse_whole(main) if is_index else main, where="--main")


def workload_for_map(options: Options, given: DeviceMap | None) -> Workload:
    """Batch, context and dtypes that a map is checked at."""
    batch, context = options.typed("batch"), options.typed("context")
    if given is not None and given.workload is not None:
        return replace(
            given.workload,
            batch=batch or given.workload.batch,
            context=context or given.workload.context,
        )
    settings = {name: options.set(name) for name in _WORKLOAD}
    settings |= {"batch": batch or settings["batch"], "context": context or settings["context"]}
    return Workload(**{name: value for name, value in settings.items() if value is not None})


def run_options(options: Options) -> RunOptions:
    """How the model is run, as typed."""
    from devplan.checker import RunOptions

    typed = {name: options.typed(name) for name in _RUN_OPTIONS if options.is_typed(name)}
    return RunOptions(**typed, generation=dict(options.typed("generation") or ()))
