"""`DeviceMapFile` to and from the plain document (dicts, lists, numbers, text) of a map file.

The document is what YAML and JSON carry.  The table of keys (`devplan.mapfile.keys`) decides both
directions: `to_plain` and `from_plain` walk it beside the value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from devplan.core import DeviceMapFile, DeviceMemory, Lock, Machine, ModelIdentity, Workload
from devplan.mapfile.keys import ENVIRONMENT, MACHINE, MAP_FILE, MODEL, WORKLOAD
from devplan.mapfile.plan_keys import PREDICTION
from devplan.mapfile.shape import (
    Coded,
    Key,
    ListOf,
    Nullable,
    Number,
    Optional,
    Record,
    Shape,
    TableOf,
)

_NOTHING: tuple[Any, ...] = (None, "", [], {})


def to_document(map_file: DeviceMapFile) -> dict[str, Any]:
    """The plain document of a map, its keys in the order of the file."""
    return to_plain(MAP_FILE, map_file)


def from_document(document: dict[str, Any]) -> DeviceMapFile:
    """The map of a document that has been checked."""
    return from_plain(MAP_FILE, document)


def model_document(model: ModelIdentity) -> dict[str, Any]:
    """The section ``model``."""
    return to_plain(MODEL, model)


def prediction_document(loads: Sequence[DeviceMemory]) -> dict[str, Any]:
    """The section ``prediction``: GPU -> its memory by part."""
    return to_plain(PREDICTION, tuple(loads))


def machine_document(machine: Machine) -> dict[str, Any]:
    """The section ``machine``; the main device has its own key."""
    return to_plain(MACHINE, machine)


def workload_document(workload: Workload) -> dict[str, Any]:
    """The section ``workload``."""
    return to_plain(WORKLOAD, workload)


def lock_document(lock: Lock) -> dict[str, Any]:
    """The section ``environment``."""
    return to_plain(ENVIRONMENT, lock)


def to_plain(shape: Shape, value: Any) -> Any:
    """The plain value of a Python value that has the given shape."""
    match shape:
        case Nullable() | Optional():
            return None if value is None else to_plain(shape.inner, value)
        case Coded():
            return to_plain(shape.inner, shape.encode(value))
        case ListOf():
            return [to_plain(shape.item, item) for item in value]
        case TableOf():
            field = shape.key_field
            items = {getattr(item, field): item for item in value} if field else value
            return {name: to_plain(shape.value, item) for name, item in items.items()}
        case Record():
            fields = shape.values(value) if shape.values else value
            plain = {key.name: to_plain(key.shape, _field(fields, key)) for key in shape.keys}
            absent = {k.name for k in shape.keys if isinstance(k.shape, Optional)}
            return {k: v for k, v in plain.items() if k not in absent or v not in _NOTHING}
        case Number():
            return float(value)
    return value


def _field(owner: Any, key: Key) -> Any:
    """The value of a key: an attribute, or an item of a mapping."""
    name = key.field or key.name
    return owner.get(name) if isinstance(owner, Mapping) else getattr(owner, name)


def from_plain(shape: Shape, plain: Any, **more: Any) -> Any:
    """The Python value of a checked plain value; `more`: fields of a record beside its keys."""
    match shape:
        case Nullable() | Optional():
            return None if plain is None else from_plain(shape.inner, plain)
        case Coded():
            return shape.decode(from_plain(shape.inner, plain))
        case ListOf():
            return tuple(from_plain(shape.item, item) for item in plain)
        case TableOf(key_field=""):
            return {name: from_plain(shape.value, item) for name, item in plain.items()}
        case TableOf(key_field=field):
            return tuple(from_plain(shape.value, v, **{field: k}) for k, v in plain.items())
        case Record():
            given = (key for key in shape.keys if not key.derived and _is_given(key, plain))
            fields = {k.field or k.name: from_plain(k.shape, plain[k.name]) for k in given}
            return shape.build(**fields, **more)
    return plain


def _is_given(key: Key, plain: Mapping[str, Any]) -> bool:
    """Whether a key is there; the field of one that is absent keeps its default."""
    return not isinstance(key.shape, Optional) or plain.get(key.name) is not None
