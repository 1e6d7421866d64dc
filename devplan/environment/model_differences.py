"""The model that is to be loaded beside the one that the map was made for.

A class or a size that differs is an error: the entries fit another model.  Another configuration
of the same class and size is a warning, another revision of the same configuration a note.

A map that was planned from the built-in catalogue has the hash of the catalogue's configuration,
which holds only what differs from the class default; a checkpoint's ``config.json`` says more.
Then the values that the catalogue has are compared, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from devplan.core import DeviceMapFile, Difference, ModelFacts, Severity
from devplan.models import VOLATILE_KEYS, config_hash, from_catalog, whole_config

UNKNOWN_MODULE = "DP002"
NO_CLASS = "DP501"
OTHER_MODEL = "DP509"

_SHOWN = 3
_ABSENT = object()


def compare_model(map_file: DeviceMapFile, model: ModelFacts, remake: str) -> Iterator[Difference]:
    """What differs between the map's model and the one at hand."""
    planned = map_file.model
    if model.is_class_installed is False:
        yield Difference(
            code=NO_CLASS,
            severity=Severity.ERROR,
            subject=planned.class_name,
            message=f"the map is for {planned.class_name}, which the installed "
            f"{model.library} does not have",
            planned=planned.class_name,
            remedy=_how_to_get(map_file, model),
        )
        return
    if model.class_name is not None and model.class_name != planned.class_name:
        yield _other(
            Severity.ERROR,
            f"the model here is a {model.class_name}, the map is for a {planned.class_name}",
            planned.class_name,
            model.class_name,
            remake,
        )
        return
    yield from _sizes(map_file, model, remake)
    yield from _unknown_modules(map_file, model, remake)


def _how_to_get(map_file: DeviceMapFile, model: ModelFacts) -> str:
    version = map_file.versions.get(model.library)
    return f'pip install "{model.library}=={version}"' if version else f"upgrade {model.library}"


def _sizes(map_file: DeviceMapFile, model: ModelFacts, remake: str) -> Iterator[Difference]:
    planned = map_file.model
    if model.num_parameters is not None and model.num_parameters != planned.num_parameters:
        yield _other(
            Severity.ERROR,
            f"the model here has {model.num_parameters:,} parameters, the map is for "
            f"{planned.num_parameters:,}",
            f"{planned.num_parameters:,}",
            f"{model.num_parameters:,}",
            remake,
        )
        return
    changed = _configuration(map_file, model, remake)
    if changed is not None:
        yield changed
    elif planned.revision and model.revision and planned.revision != model.revision:
        is_same = planned.config_hash is not None and planned.config_hash == model.config_hash
        yield _other(
            Severity.NOTE if is_same else Severity.WARNING,
            f"the model here is of revision {model.revision}, the map is for {planned.revision}"
            + (", with the same configuration" if is_same else ""),
            planned.revision,
            model.revision,
            "" if is_same else f"load revision={planned.revision!r}, or {remake}",
        )


def _configuration(map_file: DeviceMapFile, model: ModelFacts, remake: str) -> Difference | None:
    if not is_configured_otherwise(map_file, model):
        return None
    planned = map_file.model
    words = "; ".join(_changes(map_file, model)[:_SHOWN])
    return _other(
        Severity.WARNING,
        "the configuration of the model here is not the one that the map was planned with"
        + (f": {words}" if words else ", its hash differs"),
        planned.config_hash,
        model.config_hash,
        remake,
    )


def is_configured_otherwise(map_file: DeviceMapFile, model: ModelFacts) -> bool:
    """Whether the model's configuration is another one than the map was planned with."""
    hashes = (map_file.model.config_hash, model.config_hash)
    if None in hashes or hashes[0] == hashes[1]:
        return False
    by_value = _expected(map_file) is not None and model.config is not None
    return bool(_changes(map_file, model)) if by_value else True


def _changes(map_file: DeviceMapFile, model: ModelFacts) -> tuple[str, ...]:
    """Values of the catalogue that differ; empty where they are not known."""
    expected = _expected(map_file)
    if expected is None or model.config is None:
        return ()
    return tuple(changed_values(expected, model.config))


def _expected(map_file: DeviceMapFile) -> Mapping[str, Any] | None:
    return _of_catalogue(map_file.model.id, map_file.model.config_hash)


def _of_catalogue(id: str, hash: str | None) -> Mapping[str, Any] | None:
    """The catalogue's configuration, where the map was planned with it; of a pipeline, all."""
    entry = from_catalog.find(id)
    if entry is None:
        return None
    resolved = from_catalog.resolve_catalogue(entry)
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


def _unknown_modules(
    map_file: DeviceMapFile, model: ModelFacts, remake: str
) -> Iterator[Difference]:
    if not model.names:
        return
    unknown = [entry for entry in map_file.device_map if entry and entry not in model.names]
    if not unknown:
        return
    planned = map_file.model
    shown = ", ".join(unknown[:_SHOWN])
    more = len(unknown) - _SHOWN
    yield Difference(
        code=UNKNOWN_MODULE,
        severity=Severity.ERROR,
        subject=unknown[0],
        message=f"{len(unknown)} of the {len(map_file.device_map)} entries of the map are no "
        f"modules of {planned.class_name} as it is here: {shown}"
        + (f" and {more} more" if more > 0 else ""),
        planned=unknown[0],
        remedy=f"`devplan check` says what they are called now; or {remake}",
    )


def _other(severity: Severity, message: str, planned: str, present: str, remake: str) -> Difference:
    return Difference(
        code=OTHER_MODEL,
        severity=severity,
        subject="model",
        message=message,
        planned=planned,
        present=present,
        remedy=remake,
    )
