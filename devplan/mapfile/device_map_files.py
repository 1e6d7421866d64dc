"""A file to a `DeviceMap`: devplan's maps, bare device maps in YAML or JSON, and their wrappers.

=============================  ======================================================
``schema:`` and the rest       a devplan map, read in full by ``devplan.mapfile``
``device_map:`` or             the mapping below that key; ``model:`` beside it, where
``hf_device_map:``             it is text, names the model
a mapping to devices           the map itself
=============================  ======================================================

JSON is read as the YAML that it is, so that lines are known in both.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml

from devplan.core import (
    DeviceMap,
    DeviceMapFile,
    Entry,
    InputError,
    NamedInFile,
    Reader,
    described,
    device_map_of,
    path,
    read_entry,
    refuse_no_map,
    wrong,
)
from devplan.io import MAP, read_text
from devplan.mapfile.read import compose_document, map_of_node

MAP_KINDS = 'a map file, a mapping such as {"model": 0}, or what devplan.suggest gave'


class HasMap(Protocol):
    """What `devplan.suggest` returns."""

    @property
    def checked_map(self) -> DeviceMapFile:
        """The map; an `InputError` where there is none that runs."""


MapLike = str | Path | Mapping[str, Any] | DeviceMap | DeviceMapFile | HasMap
"""A map in any of its forms."""

_WRAPPERS = ("device_map", "hf_device_map")


def as_device_map(device_map: MapLike) -> DeviceMap:
    """The `DeviceMap` of a map in any form."""
    if isinstance(device_map, DeviceMap):
        return device_map
    if isinstance(device_map, str | os.PathLike):
        return read_device_map(path(MAP_KINDS)("map", device_map))
    if isinstance(device_map, DeviceMapFile):
        bare = device_map_of(device_map.device_map)
        return DeviceMap(
            name=bare.name,
            entries=bare.entries,
            model=NamedInFile(text=device_map.model.id, file="the map"),
            class_name=device_map.model.class_name,
            machine=device_map.machine,
            workload=device_map.workload,
            packed=device_map.model.packed,
            quantize=device_map.model.quantize,
            versions=device_map.versions,
            content=device_map,
        )
    checked = getattr(device_map, "checked_map", None)  # of a devplan.suggest
    if checked is not None:
        return as_device_map(checked)
    if isinstance(device_map, Mapping):
        return device_map_of(device_map)
    raise wrong("map", device_map, MAP_KINDS)


def model_before_map(call: str) -> Reader:
    """The reader of `model` in a function that takes a model and then a map.

    Parameters
    ----------
    call
        The right call, for the message to who gives the map first.
    """

    def read(name: str, value: Any) -> Any:
        if _is_map(value):
            shown = value if isinstance(value, str | os.PathLike) else described(value)
            raise InputError(f"{name} is a device map, {shown}; the model comes first: {call}")
        return value

    return read


def _is_map(value: Any) -> bool:
    if isinstance(value, str | os.PathLike):
        given = Path(value)
        return given.suffix in (".yaml", ".yml") and not given.is_dir()
    if isinstance(value, Mapping):
        devices = [read_entry(str(key), device).device for key, device in value.items()]
        return bool(devices) and None not in devices
    return isinstance(value, DeviceMap | DeviceMapFile) or hasattr(value, "checked_map")


def read_device_map(path: str | Path) -> DeviceMap:
    """The map in a file.

    Raises
    ------
    InputError
        When the file cannot be read or holds no map; one line with file, line and remedy.
    """
    name = Path(path).as_posix()
    return parse_device_map(read_text(name, MAP), name)


def parse_device_map(text: str, name: str) -> DeviceMap:
    """The map in a text; `name` stands for the file."""
    # [tabs] JSON may indent with them and YAML may not; none can stand inside a JSON string.
    node = compose_document(text.replace("\t", "  ") if text.lstrip()[:1] == "{" else text, name)
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        raise InputError(
            f"{name}:{line}: holds no device map but {_kind(node)}; give a mapping such as model: 0"
        )
    sections = {key.value: value for key, value in node.value if _is_text(key)}
    if "schema" in sections:
        return _devplan_map(node, name, sections.get("device_map", node))
    for wrapper in _WRAPPERS:
        inner = sections.get(wrapper)
        if isinstance(inner, yaml.MappingNode):
            model = sections.get("model")
            stated = model.value if isinstance(model, yaml.ScalarNode) else None
            return _bare_map(inner, name, stated)
    return _bare_map(node, name, None)


def _devplan_map(node: yaml.Node, name: str, entries: yaml.Node) -> DeviceMap:
    content = map_of_node(node, name)
    lines = {key.value: key.start_mark.line + 1 for key, _ in entries.value}
    return DeviceMap(
        name=name,
        file=name,
        entries=tuple(
            read_entry(key, device, file=name, line=lines.get(key))
            for key, device in content.device_map.items()
        ),
        model=_named(content.model.id, name),
        class_name=content.model.class_name,
        machine=content.machine,
        workload=content.workload,
        packed=content.model.packed,
        quantize=content.model.quantize,
        versions=content.versions,
        content=content,
    )


def _bare_map(node: yaml.MappingNode, name: str, model: str | None) -> DeviceMap:
    entries: dict[str, Entry] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = _key(key_node, name, line)
        if key in entries:
            raise InputError(
                f"{name}:{line}: {key!r} is in the map twice, first on line "
                f"{entries[key].line}; remove one"
            )
        entries[key] = read_entry(key, _value(value_node), file=name, line=line)
    named = None if model is None else _named(model, name)
    found = DeviceMap(name=name, file=name, entries=tuple(entries.values()), model=named)
    return refuse_no_map(found)


def _named(model: str, name: str) -> NamedInFile:
    return NamedInFile(text=model, file=name, folder=Path(name).parent)


def _key(node: yaml.Node, name: str, line: int) -> str:
    if isinstance(node, yaml.ScalarNode):
        return node.value
    raise InputError(f"{name}:{line}: a name in the map is {_kind(node)}; write it as text")


def _value(node: yaml.Node) -> Any:
    """An integer, a text, or the text of what is neither."""
    if not isinstance(node, yaml.ScalarNode):
        return _kind(node)
    if node.tag.endswith(":int"):
        return _whole(node.value)
    return node.value


def _whole(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:  # 0x1 and 1_0 are integers for YAML alone
        return text


def _is_text(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode)


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "a mapping" if isinstance(node, yaml.MappingNode) else f"the value {node.value!r}"
