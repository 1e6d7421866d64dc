"""A device map and its entries, before anything in them is judged.

A device that cannot be read is kept with the reason: it becomes a finding, and the rest of the map
is still checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from devplan.core.arguments import NamedInFile, described
from devplan.core.devices import from_hf_device
from devplan.core.errors import InputError
from devplan.core.names import part_of_map
from devplan.core.types import DeviceMapFile, Machine
from devplan.core.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of a device map: the module or tensor that it names, and its device."""

    key: str
    device: str | None
    """As devplan writes devices; None where it cannot be read."""
    written: str | None = None
    """The device as it is written in the map; None where only the device is known."""
    problem: str = ""
    """Why the device cannot be read."""
    file: str | None = None
    line: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The entry as reports in JSON have it."""
        return {
            "key": self.key,
            "device": self.device or self.written,
            "written": self.written,
            "file": self.file,
            "line": self.line,
        }


@dataclass(frozen=True, kw_only=True)
class DeviceMap:
    """A device map with everything that its file says; None where it does not say it."""

    name: str
    """For people: the file, or ``device_map`` for a mapping from Python."""
    file: str | None = None
    entries: tuple[Entry, ...]
    model: NamedInFile | None = None
    """The model that the map was made for."""
    class_name: str | None = None
    """Class of that model."""
    machine: Machine | None = None
    workload: Workload | None = None
    packed: bool = False
    """Whether it counts quantized weights as they are stored."""
    quantize: str | None = None
    """How the weights are quantized while they are loaded; None: they lie as they are stored."""
    versions: Mapping[str, str] = field(default_factory=dict)
    content: DeviceMapFile | None = None
    """The whole map file, if devplan wrote it."""
    component: str = ""
    """The component of a pipeline that the entries belong to; empty: the entries are the whole
    map."""

    def part(self, component: str) -> DeviceMap:
        """The map of one component of a pipeline, with names relative to the component."""
        part = part_of_map({entry.key: entry for entry in self.entries}, component)
        entries = tuple(replace(entry, key=key) for key, entry in part.items())
        return replace(self, entries=entries, component=component)


def read_entry(key: str, value: Any, *, file: str | None = None, line: int | None = None) -> Entry:
    """An entry from a value of a device map: integer, text or ``torch.device``."""
    try:
        device, problem = from_hf_device(value), ""
    except InputError as error:
        device, problem = None, str(error).removeprefix("device: ")
    # [quotes] "1" in quotes is not a device, 1 is one: the message must show the quotes.
    written = repr(value) if isinstance(value, str) and value.isdecimal() else str(value)
    return Entry(key=key, device=device, written=written, problem=problem, file=file, line=line)


def device_map_of(device_map: Mapping[str, Any], name: str = "device_map") -> DeviceMap:
    """The map in a mapping from Python.

    Raises
    ------
    InputError
        When it is empty, a name is not text, or no value is a device.
    """
    for key in device_map:
        if not isinstance(key, str):
            raise InputError(
                f"{name} holds the name {described(key)}; give names as text, in quotes"
            )
    entries = tuple(read_entry(key, value) for key, value in device_map.items())
    return refuse_no_map(DeviceMap(name=name, entries=entries))


def refuse_no_map(map: DeviceMap) -> DeviceMap:
    """The map itself, if it has an entry and at least one readable device."""
    if not map.entries:
        raise InputError(f"{map.name} holds no entry; a map names modules, such as model: 0")
    if all(entry.device is None for entry in map.entries):
        first = map.entries[0]
        raise InputError(
            f"{map.name} is not a device map: none of its values is a device, the first is "
            f"{first.key}: {first.written}"
        )
    return map
