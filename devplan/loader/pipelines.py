"""A diffusers pipeline by a map: each of its models by its part of the map.

``DiffusionPipeline.from_pretrained(device_map=...)`` takes the name of a strategy and no mapping
(diffusers 0.42); ``from_pretrained`` of each model takes one.  So every model is loaded by its own
class with its part of the map, and is given the hooks that diffusers itself would give it
(``load_sub_model``): also where it lies whole on one card, since its inputs come from another.
The pipeline is then made of these models, and diffusers loads the rest, tokenizers and scheduler.

A model of which something is offloaded runs at the map's main device, the others at the lowest of
their cards: as in the virtual run that proved the map.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from devplan.errors import InputError
from devplan.findings import MapEntry
from devplan.loader.auditing import audit_target
from devplan.loader.differences import Audit
from devplan.loader.dispatching import bring_home
from devplan.loader.hooks import is_dispatched
from devplan.loader.target import Target
from devplan.mapfile.load_code import dtype_keyword, load_dtype
from devplan.names import component_main, part_of_map
from devplan.skeleton.pipeline import component_class, quiet_diffusers
from devplan.sources.components import named_components
from devplan.sources.folder import is_path
from devplan.types import CPU, DISK
from devplan.virtual.placing import skipped_keys, spelled_out

log = logging.getLogger("devplan")


def load_pipeline(
    target: Target,
    place: str,
    *,
    revision: str | None = None,
    offload_folder: str | Path | None = None,
    further: Mapping[str, Any] | None = None,
) -> tuple[Any, list[Audit]]:
    """The pipeline of a map, its models where the map says, and the audit of each of them.

    Parameters
    ----------
    target
        The map, as it is to be applied here.
    place
        Folder or id of the pipeline.
    revision
        Branch, tag or commit on the hub.
    offload_folder
        Where weights on ``disk`` are written.
    further
        Arguments for the pipeline's own ``from_pretrained``: ``safety_checker=None``.

    Raises
    ------
    InputError
        When the installed diffusers lacks the class, or a component of the map is not there.
    """
    assert target.content is not None
    with quiet_diffusers():
        import diffusers

        pipeline_class = getattr(diffusers, target.content.model.class_name, None)
    if pipeline_class is None:
        raise InputError(
            f"{target.name}: diffusers {diffusers.__version__} has no "
            f"{target.content.model.class_name}; upgrade diffusers"
        )
    index = pipeline_class.load_config(place, revision=revision)
    classes = {name: (library, kind) for name, library, kind in named_components(index)}
    models: dict[str, nn.Module] = {}
    audits = []
    for name in target.content.model.components:
        if name not in classes:
            raise InputError(
                f"{target.name} places {name!r}, which the pipeline in {place} does not have; it "
                f"has {', '.join(classes)}"
            )
        part = part_of_target(target, name)
        kind = component_class(f"{place}/{name}", *classes[name])
        arguments = _arguments(part, name, place, revision)
        arguments |= _dtype(target, kind.__module__.partition(".")[0])
        log.info("loading %s of %s", name, place)
        model = kind.from_pretrained(**arguments)
        models[name] = _dispatched(model.eval(), part, _folder(part, name, offload_folder))
        audits.append(audit_target(models[name], part))
    pipeline = pipeline_class.from_pretrained(
        place, revision=revision, **_dtype(target, "diffusers"), **models, **(further or {})
    )
    return pipeline, audits


def part_of_target(target: Target, component: str) -> Target:
    """What a map asks for of one component, in names of the component's own."""
    entries: dict[str, MapEntry] = part_of_map(target.entries, component)
    devices = {name: entry.device for name, entry in entries.items()}
    assert target.content is not None
    main = component_main(devices, target.content.machine.main_device)
    return replace(
        target,
        name=f"{target.name} ({component})",
        entries=entries,
        main_device=target.here(main),
        always_hooked=True,
    )


def _arguments(
    part: Target,
    name: str,
    place: str,
    revision: str | None,
) -> dict[str, Any]:
    """Of the ``from_pretrained`` of a component; one that goes to disk, or is offloaded whole, is
    read on the CPU first."""
    in_folder = is_path(place)
    found: dict[str, Any] = {
        "pretrained_model_name_or_path": str(Path(place) / name) if in_folder else place,
        "device_map": part.hf_device_map,
    }
    if not in_folder:
        found |= {"subfolder": name, "revision": revision}
    if DISK in part.devices or part.devices <= {CPU}:
        found["device_map"] = {"": CPU}
    return found


def _folder(part: Target, name: str, asked: str | Path | None) -> str | None:
    """Where the weights of a component on disk are written; None where none are."""
    if DISK not in part.devices:
        return None
    if asked is None:
        raise InputError(
            f"{part.name}: weights on disk need a folder; give devplan.load(..., "
            "offload_folder=FOLDER)"
        )
    return str(Path(asked) / name)


def _dtype(target: Target, library: str) -> dict[str, Any]:
    """The dtype of the map as the keyword of a library."""
    import torch

    assert target.content is not None
    wanted = load_dtype(target.content)
    if wanted == "auto":
        return {}
    if library == "diffusers":
        return {"torch_dtype": getattr(torch, wanted)}
    import transformers

    return {dtype_keyword(transformers.__version__): getattr(torch, wanted)}


def _dispatched(model: nn.Module, part: Target, folder: str | None) -> nn.Module:
    """The model with hooks that move its inputs to it, and what it gives back again."""
    import accelerate

    if is_dispatched(model):
        bring_home(model, (CPU,))
    accelerate.dispatch_model(
        model,
        device_map=dict(spelled_out(model, part.hf_device_map)),
        main_device=part.hf_main_device,
        offload_dir=folder,
        force_hooks=True,
        skip_keys=skipped_keys(model),
    )
    return model
