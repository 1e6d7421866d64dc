"""A local folder: its config.json and the headers of its safetensors files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from devplan.core import InputError, nearest
from devplan.models.config import (
    CONFIG_FILE,
    config_hash,
    library_and_class,
    parse_object,
    read_config_text,
    refuse_wrong_kinds,
    stated_dtype,
)
from devplan.models.pipeline_source import (
    PIPELINE_FILE,
    component_source,
    named_components,
    parse_pipeline_index,
    pipeline_source,
)
from devplan.models.source import ModelSource
from devplan.models.stored_tensors import read_folder_weights
from devplan.models.without_config import without_config


def is_path(model: str) -> bool:
    """Whether MODEL names something on this machine, or can only be a path."""
    return model.startswith((".", "~")) or os.path.isabs(model) or os.path.exists(model)


def resolve_folder(model: str, *, trust_remote_code: bool) -> ModelSource:
    """The model in a folder.

    Raises
    ------
    InputError
        When there is no such folder, or what it holds cannot be planned for.
    """
    folder = Path(model).expanduser()
    _require_folder(model, folder)
    path = folder / CONFIG_FILE
    if not path.exists() and (folder / PIPELINE_FILE).exists():
        return _with_weights(described_pipeline(model, folder), folder)
    if not path.exists():
        raise without_config(
            model, _file_names(folder), lambda name: read_config_text(folder / name)
        )
    config = parse_object(read_config_text(path), str(path))
    library, class_name = library_and_class(config, str(path))
    refuse_wrong_kinds(config, str(path))
    weights = read_folder_weights(folder)
    return ModelSource(
        id=model,
        origin="folder",
        location=str(folder),
        library=library,
        class_name=class_name,
        config=config,
        dtype=stated_dtype(config, str(path)),
        config_hash=config_hash(config),
        stored=weights.tensors,
        stored_metadata=weights.metadata,
        trust_remote_code=trust_remote_code,
        code_folder=str(folder) if trust_remote_code and "auto_map" in config else None,
        notes=weights.notes,
    )


def described_pipeline(model: str, folder: Path) -> ModelSource:
    """A diffusers pipeline by its configurations; what its weights are is not looked at.

    Raises
    ------
    InputError
        When its index or a configuration is broken.
    """
    index = parse_pipeline_index(
        read_config_text(folder / PIPELINE_FILE), str(folder / PIPELINE_FILE)
    )
    whole = ModelSource(
        id=model,
        origin="folder",
        location=str(folder),
        library="diffusers",
        class_name=index["_class_name"],
        config=index,
    )

    def read(name: str) -> str | None:
        return read_config_text(folder / name) if (folder / name).is_file() else None

    components = {
        name: component_source(name, library, class_name, read, of=whole)
        for name, library, class_name in named_components(index)
    }
    return pipeline_source(whole, components)


def _with_weights(pipeline: ModelSource, folder: Path) -> ModelSource:
    """The same with the headers of the safetensors files in the folders below."""
    components = {}
    for name, part in pipeline.components.items():
        if (folder / name / CONFIG_FILE).is_file():
            weights = read_folder_weights(folder / name)
            part = replace(
                part,
                stored=weights.tensors,
                stored_metadata=weights.metadata,
                notes=weights.notes,
            )
        components[name] = part
    return pipeline_source(pipeline, components)


def _require_folder(model: str, folder: Path) -> None:
    if folder.is_dir():
        return
    if folder.exists():
        raise InputError(f"{model} is a file; give the folder that holds {CONFIG_FILE}")
    around = folder.parent
    known = [entry.name for entry in around.iterdir() if entry.is_dir()] if around.is_dir() else []
    near = nearest(folder.name, known)
    raise InputError(
        f"there is no folder {model}"
        f"{'' if around.is_dir() else f' ({around} does not exist either)'}"
        f"{near or f'; give the folder that holds {CONFIG_FILE}'}"
    )


def _file_names(folder: Path) -> list[str]:
    """Files of a folder, and the config.json files one folder below it."""
    here = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    below = sorted(path.relative_to(folder).as_posix() for path in folder.glob(f"*/{CONFIG_FILE}"))
    return here + below
