"""A device map as it was given: what stands where, before anybody judges it.

Devices that cannot be read are kept with the reason, since they are findings and no reason to
stop: a map with one bad line still deserves to hear about the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from devplan.core import (
    DeviceMapFile,
    InputError,
    Machine,
    MapEntry,
    NamedInFile,
    Workload,
    described,
    from_hf_device,
    part_of_map,
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a map."""

    key: str
    device: str | None
    """As devplan writes devices; None where it cannot be read."""
    written: str
    """As it stands in the map."""
    problem: str = ""
    """Why it cannot be read."""
    line: int | None = None


@dataclass(frozen=True, kw_only=True)
class DeviceMap:
    """A map and what came with it; what a bare map does not say is None."""

    name: str
    """For people: the file, or ``device_map`` for one that Python handed over."""
    file: str | None = None
    entries: tuple[Entry, ...]
    model: NamedInFile | None = None
    """Which model it was made for."""
    class_name: str | None = None
    """Its class."""
    machine: Machine | None = None
    workload: Workload | None = None
    packed: bool = False
    """Whether it counts quantized weights as they are stored."""
    versions: Mapping[str, str] = field(default_factory=dict)
    content: DeviceMapFile | None = None
    """All of it, where it is a map of devplan's own."""
    component: str = ""
    """Of whose part of it the entries are; empty: they are all of it."""

    def map_entry(self, entry: Entry) -> MapEntry:
        """An entry as findings show it."""
        device = entry.device or entry.written
        return MapEntry(
            key=entry.key, device=device, written=entry.written, file=self.file, line=entry.line
        )


def part_of_given(given: DeviceMap, component: str) -> DeviceMap:
    """The map of one component of a pipeline, in names of the component's own."""
    by_name = {entry.key: entry for entry in given.entries}
    part = part_of_map(by_name, component)
    entries = tuple(replace(entry, key=key) for key, entry in part.items())
    return replace(given, entries=entries, component=component)


def given_entry(key: str, value: Any, line: int | None = None) -> Entry:
    """One entry from a value of a device map: integer, text or ``torch.device``."""
    try:
        device, problem = from_hf_device(value), ""
    except InputError as error:
        device, problem = None, str(error).removeprefix("device: ")
    # [digits in quotes] are no device, and only the quotes tell them from one that is.
    written = repr(value) if isinstance(value, str) and value.isdecimal() else str(value)
    return Entry(key=key, device=device, written=written, problem=problem, line=line)


def given_map(device_map: Mapping[str, Any], name: str = "device_map") -> DeviceMap:
    """A map that Python handed over.

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
    entries = tuple(given_entry(key, value) for key, value in device_map.items())
    return refuse_no_map(DeviceMap(name=name, entries=entries))


def refuse_no_map(given: DeviceMap) -> DeviceMap:
    """The map itself, if anything in it is a device."""
    if not given.entries:
        raise InputError(f"{given.name} holds no entry; a map names modules, such as model: 0")
    if all(entry.device is None for entry in given.entries):
        first = given.entries[0]
        raise InputError(
            f"{given.name} is no device map: none of its values is a device, the first is "
            f"{first.key}: {first.written}"
        )
    return given
