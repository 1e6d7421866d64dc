"""From a model and a map, in whatever form, to a `CheckContext`.

    model: MODEL string | transformers config | loaded model -> source, skeleton, structure
    map:   file | mapping | DeviceMap | DeviceMapFile | "auto" -> DeviceMap

What the caller states wins over what stands in the map.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from torch import nn

from devplan.catalog import load_models
from devplan.checker.baselines import STRATEGIES, inferred_map
from devplan.checker.from_model import (
    in_names_of_the_model,
    source_of_config,
    source_of_model,
    unwrapped,
)
from devplan.checker.structure import build_structure
from devplan.core import (
    CPU,
    DeviceMap,
    DeviceMapFile,
    Environment,
    InputError,
    Machine,
    NamedInFile,
    Workload,
    chosen_by_accelerate,
    dtype_name,
    from_hf_device,
    parse_whole,
    resolve_workload,
)
from devplan.environment import facts_of_skeleton
from devplan.machine import least_capability
from devplan.mapfile import as_device_map, installed_versions
from devplan.models import ModelSource, Skeleton, build_skeleton, model_path, resolve
from devplan.profile import quantized_source
from devplan.rules import CheckContext, Renames, Structure, differences, obstacles
from devplan.sandbox import exclusively, when_interrupted

# Skeletons kept for the next map of the same model: a project's maps are mostly of one or two.
_KEPT_MODELS = 4

# Names that many models share (lm_head, norm) are among a map's few: three quarters of unknown
# names are another model, or another size of it; below that, every name is a finding of its own.
LARGEST_UNKNOWN_SHARE = 0.75


@dataclass(frozen=True, kw_only=True, eq=False)
class Built:
    """A model without its weights, and what is known of it."""

    source: ModelSource
    skeleton: Skeleton
    structure: Structure
    workload: Workload
    """As asked, and what was not asked as the model has it."""


@exclusively
def prepare(
    model: str | NamedInFile | nn.Module | Any,
    device_map: str | Path | Mapping[str, Any] | DeviceMap | DeviceMapFile,
    *,
    machine: Machine | None = None,
    main_device: str | None = None,
    workload: Workload | None = None,
    packed: bool = False,
    quantize: str | None = None,
    trust_remote_code: bool = False,
) -> CheckContext:
    """Everything that the rules look at, but the runs.

    Parameters
    ----------
    model
        MODEL as on the command line or as a map names it, a transformers configuration, or a
        loaded model.
    device_map
        A file, a mapping, one of `STRATEGIES`, or what `read_device_map` or `read_map` returned.
    machine, main_device, workload
        None: as the map says; a bare map says nothing.  A field of the workload that is
        None is left to the model.
    packed
        Whether quantized weights count as they are stored; a map may say so itself.
    quantize
        How transformers quantizes the weights while it loads them (``devplan.core.quantize``);
        None: as the map says.

    Raises
    ------
    InputError
        When the model cannot be built, the map cannot be read, or belongs to another model.
    """
    map = None if _is_strategy(device_map) else as_device_map(device_map)
    if isinstance(model, nn.Module):
        map = None if map is None else in_names_of_the_model(map, model)
        model = unwrapped(model)
    workload = workload or (map.workload if map else None) or Workload()
    cards = machine or (map.machine if map else None)
    built = build(
        model,
        workload,
        trust_remote_code=trust_remote_code,
        least_capability=least_capability(cards) if cards else None,
        packed=packed or bool(map and map.packed),
        quantize=quantize or (map.quantize if map else None),
    )
    if map is None:
        map = inferred_map(str(device_map), built.skeleton, machine)
    refuse_other_model(map, built)
    return context_of(built, map, machine=machine, main_device=main_device)


def context_of(
    built: Built,
    map: DeviceMap,
    *,
    machine: Machine | None = None,
    main_device: str | None = None,
) -> CheckContext:
    """The context of a map for a model that is built already."""
    machine = machine or map.machine
    versions = installed_versions(built.source.library)
    stated = main_device or (machine.main_device if machine else None)
    return CheckContext(
        model=built.source.id,
        source=built.source,
        skeleton=built.skeleton,
        structure=built.structure,
        map=map,
        machine=machine,
        main_device=from_hf_device(stated) if stated else _chosen(map, versions),
        stated_main=stated is not None,
        workload=built.workload,
        installed=versions,
    )


def against(context: CheckContext, environment: Environment) -> CheckContext:
    """The context with the findings about this machine."""
    content = context.map.content
    if content is None:
        found = obstacles(environment)
    else:
        # [names] another rule compares them, with the structure.
        facts = replace(facts_of_skeleton(context.source, context.skeleton), names=frozenset())
        found = differences(content, environment, facts)
    return replace(context, differences=found)


def _is_strategy(device_map: Any) -> bool:
    return isinstance(device_map, str) and device_map in STRATEGIES


@exclusively
def build(
    model: str | NamedInFile | nn.Module | Any,
    workload: Workload,
    *,
    trust_remote_code: bool,
    least_capability: tuple[int, int] | None = None,
    packed: bool = False,
    quantize: str | None = None,
) -> Built:
    """The skeleton and structure of a model in any of its forms; names are built once."""
    lie = _Lie(least_capability=least_capability, packed=packed, quantize=quantize)
    if isinstance(model, str | PathLike | NamedInFile):
        model = model if isinstance(model, NamedInFile) else fspath(model)
        state = _state_of(model_path(model) if isinstance(model, NamedInFile) else model)
        return _build_named(model, state, workload, trust_remote_code, lie)
    if isinstance(model, nn.Module):  # [quantized] its parameters lie as they are already
        return _built(source_of_model(model), workload, replace(lie, quantize=None))
    return _built(source_of_config(model), workload, lie)


@dataclass(frozen=True, kw_only=True)
class _Lie:
    """How quantized weights lie in memory."""

    least_capability: tuple[int, int] | None
    packed: bool
    quantize: str | None


def _state_of(model: str) -> tuple[str, ...]:
    """Which folder a name means now, and when its files changed last; nothing for other names."""
    try:
        folder = Path(model).expanduser()
        if not folder.is_dir():
            return ()
        changed = sorted(f"{file.name} {file.stat().st_mtime_ns}" for file in folder.iterdir())
    # [names] too long, not encodable, or of nobody's home: whoever resolves it says so.
    except (OSError, ValueError, RuntimeError):
        return ()
    return (str(folder.resolve()), *changed)


@lru_cache(maxsize=_KEPT_MODELS)
def _build_named(
    model: str | NamedInFile,
    state: tuple[str, ...],
    workload: Workload,
    trust_remote_code: bool,
    lie: _Lie,
) -> Built:
    source = resolve(model, trust_remote_code=trust_remote_code)
    return _built(source, workload, lie)


when_interrupted(_build_named.cache_clear)


def _built(source: ModelSource, workload: Workload, lie: _Lie) -> Built:
    skeleton = build_skeleton(source, workload.dtype)
    if lie.quantize is not None:
        source = quantized_source(source, lie.quantize)
    workload, _ = resolve_workload(
        workload, dtype=dtype_name(skeleton.dtype), max_tokens=skeleton.max_tokens
    )
    structure = build_structure(
        skeleton, source, workload, least_capability=lie.least_capability, packed=lie.packed
    )
    return Built(source=source, skeleton=skeleton, structure=structure, workload=workload)


def _chosen(map: DeviceMap, versions: Mapping[str, str]) -> str:
    devices = [entry.device for entry in map.entries if entry.device is not None]
    return chosen_by_accelerate(devices, versions.get("accelerate", "")) or CPU


def refuse_other_model(map: DeviceMap, built: Built) -> None:
    """Refuse a map of another class, or one most of whose names are nowhere in the model.

    A map says which class it was made for if devplan wrote it.  Another class is no reason to
    refuse where all names are there (a subclass), or where the model is the same (releases of
    transformers rename classes and modules: then each name is a finding).

    Raises
    ------
    InputError
        With the model that the map was made for, where it says so or the catalogue knows one.
    """
    structure = built.structure
    keys = [entry.key for entry in map.entries]
    here = {"", *structure.modules, *structure.tensors}
    strange = [key for key in keys if key not in here]
    renames = Renames(name for name in structure.modules if name)
    unknown = [key for key in strange if not renames.candidates(key)]
    made_for = str(map.model) if map.model and map.model.text != built.source.id else None
    is_other_class = made_for and map.class_name not in (None, structure.class_name)
    if len(unknown) > LARGEST_UNKNOWN_SHARE * len(keys):
        fits = made_for or fitting_model(keys)
    elif strange and is_other_class:
        unknown, fits = strange, f"{made_for} ({map.class_name})"
    else:
        return
    hint = f"; it {'was made for' if made_for else 'fits'} {fits}" if fits else ""
    raise InputError(
        f"{map.name} is a map for another model: {structure.class_name} of {built.source.id} "
        f"lacks {len(unknown)} of its {len(keys)} modules, such as {unknown[0]!r}{hint}"
    )


# A refusal names the model that the map fits.  A map that lists layers says how many there are, and
# only models of the catalogue with that many are built, so that the answer takes seconds.  For a
# map without numbers no model is looked up, since many would fit.


@exclusively
def fitting_model(keys: Iterable[str]) -> str | None:
    """The first model of the catalogue that has all modules of a map; None where none has."""
    keys = [key for key in keys if key]
    num_layers = _longest_stack(keys)
    if num_layers < 2:
        return None
    for entry in load_models():
        may_fit = entry.library == "transformers" and num_layers in _integers_of(entry.config)
        if may_fit and _has_all(entry.id, keys):
            return entry.id
    return None


def _longest_stack(keys: Iterable[str]) -> int:
    """Layers of the longest stack that the map lists, by its highest number."""
    numbers = (parse_whole(part) for key in keys for part in key.split(".") if part.isdecimal())
    return max(numbers, default=-1) + 1


def _integers_of(config: Any) -> Iterator[int]:
    """Every integer of a configuration, at any depth."""
    if isinstance(config, Mapping):
        for value in config.values():
            yield from _integers_of(value)
    elif isinstance(config, int) and not isinstance(config, bool):
        yield config


def _has_all(model_id: str, keys: Iterable[str]) -> bool:
    try:
        model = build_skeleton(resolve(model_id)).model
    except InputError:  # the installed release does not have the class
        return False
    return all(_has(model, key) for key in keys)


def _has(model: nn.Module, name: str) -> bool:
    found: Any = model
    for part in name.split("."):
        found = getattr(found, "_modules", {}).get(part) if found is not None else None
    return found is not None
