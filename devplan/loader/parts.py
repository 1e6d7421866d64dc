"""The models that a map places: the one model itself, or those of a diffusers pipeline.

A model of a pipeline has its part of the map, in names of its own.  One of which something is
offloaded runs at the map's main device, the others at the lowest of their cards: as in the virtual
run that proved the map.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from devplan.core import (
    DeviceMapFile,
    Entry,
    InputError,
    component_main,
    described,
    is_inside,
    part_of_map,
)
from devplan.loader.checkpoint_files import CheckpointFiles
from devplan.loader.target import Target

log = logging.getLogger("devplan")


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A model and what the map asks for of it."""

    name: str
    """Of the component; empty: it is the one model."""
    model: nn.Module
    target: Target
    """In names of the model's own."""


def parts_of(model: Any, target: Target) -> tuple[Part, ...]:
    """The models of an object that the map places.

    Parameters
    ----------
    model
        A model, or a pipeline; of a pipeline a map file places the models that it names, a bare map
        all.

    Raises
    ------
    InputError
        When it is neither, or the map places a model that the pipeline does not have.
    """
    if isinstance(model, nn.Module):
        return (Part(name="", model=model, target=target),)
    if not is_pipeline(model):
        raise InputError(
            f"{described(model)} is not a torch module and no diffusers pipeline; give the "
            "model or "
            "the pipeline that the map is of"
        )
    models = models_of(model)
    _refuse_strangers(type(model).__name__, models, target)
    names = target.content.model.components if target.content is not None else tuple(models)
    warn_of_others(set(models) - set(names), target)
    return tuple(
        Part(name=name, model=models[name], target=part_of_target(target, name)) for name in names
    )


def is_pipeline(model: Any) -> bool:
    """Whether it is a pipeline of diffusers, which is not imported to find out."""
    diffusers = sys.modules.get("diffusers")
    return diffusers is not None and isinstance(model, diffusers.DiffusionPipeline)


def models_of(pipeline: Any) -> dict[str, nn.Module]:
    """Component -> model, of those components that are models."""
    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


def warn_of_others(names: Iterable[str], target: Target) -> None:
    """Say of models that the map knows nothing of that nothing is done with them."""
    for name in sorted(names):
        log.warning(
            "%s does not mention %s, so it stays where it is and its inputs are not moved to it",
            target.name,
            name,
        )


def _refuse_strangers(kind: str, models: Mapping[str, nn.Module], target: Target) -> None:
    named = target.content.model.components if target.content is not None else ()
    strange = [name for name in named if name not in models]
    strange += [
        key for key in target.entries if key and not any(is_inside(key, name) for name in models)
    ]
    if strange:
        entry = target.entries.get(strange[0])
        where = f"{entry.file}:{entry.line}" if entry is not None and entry.line else target.name
        raise InputError(
            f"{where}: {kind} has no model {strange[0]!r}; it has {', '.join(models)}; the map is "
            "of another pipeline"
        )


def part_of_target(target: Target, component: str) -> Target:
    """What a map asks for of one component, in names of the component's own."""
    entries: dict[str, Entry] = part_of_map(target.entries, component)
    card = component_main({name: entry.device for name, entry in entries.items()}, "")
    return replace(
        target,
        name=f"{target.name} ({component})",
        entries=entries,
        main_device=target.here(card) if card else target.main_device,
        content=None if target.content is None else part_of_content(target.content, component),
        always_hooked=True,
    )


def part_of_content(content: DeviceMapFile, component: str) -> DeviceMapFile:
    """The map file as it speaks of one component: in the quantization of that one.

    A pipeline's is written ``transformer bitsandbytes, text_encoder_2 bitsandbytes``.
    """
    stated = (content.model.quantization or "").split(", ")
    methods = (each.partition(" ") for each in stated)
    own = next((method for name, _, method in methods if name == component), None)
    return replace(content, model=replace(content.model, quantization=own))


# One model and a pipeline are loaded in one order (`devplan.loader.loading`).  Each `Loader` says
# which files are checked before the load, and how the load itself is called.


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The files that will be opened."""

    folder: Path
    """That of the configuration."""
    files: tuple[tuple[CheckpointFiles, DeviceMapFile], ...]
    """Of each model, and the map as it speaks of it."""
    quantizes: bool = False
    """Whether ``from_pretrained`` is told to quantize what is stored in floats."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """What was loaded, with hooks."""

    result: Any
    """For the caller."""
    parts: tuple[Part, ...]
    """Its models that the map places."""
    checked_as: Any
    """What `devplan.check` takes for it: the model, or the folder of a pipeline."""


class Loader(Protocol):
    """Checks and loads one kind of checkpoint: one model, or a pipeline."""

    place: str
    """Folder or id."""
    class_name: str

    def stored(self, target: Target) -> Stored | None:
        """The files, before one is opened; None where devplan does not look into them."""

    def loaded(self, target: Target, offload_folder: Path | None) -> Loaded:
        """All of it where the map says; weights on disk are written below the folder."""


def model_and_info(loaded: Any, place: str) -> tuple[nn.Module, Any]:
    """What ``from_pretrained`` gave, and what it says of it; made-up values are warned of."""
    model, info = loaded if isinstance(loaded, tuple) else (loaded, {})
    missing = sorted(info.get("missing_keys", ()))
    if missing:
        log.warning(
            "%d tensors are not in %s and have made-up values, %s among them",
            len(missing),
            place,
            missing[0],
        )
    return model, info
