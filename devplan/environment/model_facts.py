"""What a map is compared with on the side of the model: its configuration and its names.

The model is built without weights (a second or two), so that its modules are those of the installed
release.  Where nothing can be read of it, the class that the map names is still looked up.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devplan.catalog import models as catalogue
from devplan.core import DeviceMapFile, InputError, ModelFacts, NamedInFile
from devplan.models import (
    VOLATILE_KEYS,
    ModelSource,
    config_hash,
    described_pipeline,
    folder_files,
    is_path,
    resolve,
    resolve_catalogue,
    whole_config,
)

if TYPE_CHECKING:
    from devplan.models import Skeleton

_ABSENT = object()


def read_model_facts(
    model: str | NamedInFile, *, revision: str | None = None, trust_remote_code: bool = False
) -> ModelFacts:
    """What is known of MODEL as it is here.

    Parameters
    ----------
    model, revision, trust_remote_code
        As for `devplan.models.resolve`.

    Raises
    ------
    InputError
        When the model cannot be found.
    """
    source = resolve(model, trust_remote_code=trust_remote_code, revision=revision)
    return facts_of(source)


def is_local(model: str) -> bool:
    """Whether MODEL can be read without the network and without running code of the user's."""
    return is_path(model) or catalogue.find_catalog_model(model) is not None


def facts_of(source: ModelSource) -> ModelFacts:
    """The same of a model that was found already."""
    from devplan.models import build_skeleton, native_class, remote_class_reference

    is_one = source.library in ("transformers", "diffusers") and not source.components
    if is_one and source.origin != "factory":
        try:
            is_installed = native_class(source) is not None
        except InputError:
            is_installed = False
        brings_code = remote_class_reference(source) is not None
        if not is_installed and not (brings_code and source.trust_remote_code):
            # [own code] that may not run has its class with it: nothing is known of its modules.
            known = None if brings_code else False
            return replace(_of_source(source), is_class_installed=known)
    return facts_of_skeleton(source, build_skeleton(source))


def with_sizes(map_file: DeviceMapFile, facts: ModelFacts, folder: str | Path) -> ModelFacts:
    """The facts, with parameters and names where the configuration is not the map's.

    Only then is the model built (without weights): what is configured alike has the same sizes.
    """
    if not is_configured_otherwise(map_file, facts):
        return facts
    try:
        built = facts_of(resolve(str(folder)))
    except InputError:  # damaged in another way, which loading says better
        return facts
    return replace(facts, num_parameters=built.num_parameters, names=built.names)


def facts_of_skeleton(source: ModelSource, skeleton: Skeleton) -> ModelFacts:
    """The same of a model that was built already."""
    parameters = {id(p): p.numel() for p in skeleton.model.parameters()}
    return replace(
        _of_source(source),
        class_name=skeleton.class_name,
        is_class_installed=skeleton.executable or None,
        num_parameters=sum(parameters.values()),
        names=names_of(skeleton.model),
    )


def facts_of_pipeline(folder: Path, id: str) -> ModelFacts:
    """The same of a pipeline by its configurations alone; nothing is built.

    Raises
    ------
    InputError
        When its index or a configuration is broken.
    """
    source = described_pipeline(folder_files(str(folder), folder), weights=False)
    return replace(_of_source(source), id=id, class_name=source.class_name)


def _of_source(source: ModelSource) -> ModelFacts:
    return ModelFacts(
        id=source.id,
        revision=source.revision,
        config_hash=source.config_hash,
        config=whole_config(source),
        library=source.library,
    )


def names_of(model) -> frozenset[str]:
    """Every name of every module, parameter and buffer of a model, aliases included."""
    found = {name for name, _ in model.named_modules(remove_duplicate=False)}
    found |= {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return frozenset(found | {name for name, _ in model.named_buffers(remove_duplicate=False)})


def class_facts(map_file: DeviceMapFile) -> ModelFacts:
    """Of the map's own model only whether its class is installed; nothing of it is read."""
    library = "diffusers" if "diffusers" in map_file.versions else "transformers"
    planned = map_file.model
    facts = ModelFacts(id=planned.id, library=library)
    if planned.auto_class is not None:
        return facts  # [remote code] comes with the model
    try:
        found = hasattr(importlib.import_module(library), planned.class_name)
    except (ImportError, RuntimeError):
        found = False
    return ModelFacts(id=planned.id, library=library, is_class_installed=found)


# A map that was planned from the catalogue has the hash of the catalogue's configuration, which
# holds only what differs from the class default; a checkpoint's config.json says more.  Then the
# values that the catalogue has are compared, one by one.


def is_configured_otherwise(map_file: DeviceMapFile, model: ModelFacts) -> bool:
    """Whether the model's configuration is another one than the map was planned with."""
    hashes = (map_file.model.config_hash, model.config_hash)
    if None in hashes or hashes[0] == hashes[1]:
        return False
    by_value = _expected(map_file) is not None and model.config is not None
    return bool(changes_of(map_file, model)) if by_value else True


def changes_of(map_file: DeviceMapFile, model: ModelFacts) -> tuple[str, ...]:
    """Values of the catalogue that differ; empty where they are not known."""
    expected = _expected(map_file)
    if expected is None or model.config is None:
        return ()
    return tuple(changed_values(expected, model.config))


def _expected(map_file: DeviceMapFile) -> Mapping[str, Any] | None:
    return _of_catalogue(map_file.model.id, map_file.model.config_hash)


def _of_catalogue(id: str, hash: str | None) -> Mapping[str, Any] | None:
    """The catalogue's configuration, where the map was planned with it; of a pipeline, all."""
    entry = catalogue.find_catalog_model(id)
    if entry is None:
        return None
    resolved = resolve_catalogue(entry)
    config = whole_config(resolved) if entry.components else entry.config
    return config if config_hash(config) == hash else None


def changed_values(
    expected: Mapping[str, Any], found: Mapping[str, Any], path: str = ""
) -> Iterator[str]:
    """``text_config.num_hidden_layers is 24, not 28`` for every value that is there and differs.

    A value that `found` does not state is the class default or stands at another place: nothing
    is known of it.
    """
    for key, value in expected.items():
        if key in VOLATILE_KEYS:
            continue
        here = _value(found, key)
        if isinstance(value, Mapping) and isinstance(here, Mapping):
            yield from changed_values(value, here, f"{path}{key}.")
        elif here is not _ABSENT and here != value:
            yield f"{path}{key} is {here!r}, not {value!r}"


def _value(config: Mapping[str, Any], key: str) -> Any:
    """transformers 5 calls ``torch_dtype`` ``dtype``."""
    other = {"torch_dtype": "dtype", "dtype": "torch_dtype"}.get(key, key)
    return config.get(key, config.get(other, _ABSENT))
