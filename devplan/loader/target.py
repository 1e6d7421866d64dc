"""What a map asks for on this machine: its entries with stand-ins for cards that are not here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from devplan.core import (
    CPU,
    DISK,
    OFFLOAD_DEVICES,
    DeviceMap,
    DeviceMapFile,
    Entry,
    InputError,
    chosen_by_accelerate,
    find_entry,
    from_hf_device,
    is_one_device,
    parent,
    to_hf_device,
    to_hf_device_map,
    wrong,
)
from devplan.mapfile import MapLike, as_device_map, installed_versions


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where everything is to lie."""

    name: str
    """Of the map, for people."""
    entries: Mapping[str, Entry]
    """Key -> entry; its device is the one of the map, before stand-ins."""
    stand_ins: Mapping[str, str]
    """Card of the map -> device that takes its place; none where the machine has the cards."""
    main_device: str
    """Where inputs enter, stand-ins applied."""
    content: DeviceMapFile | None
    """All of the map file; None for a bare map."""
    folder: Path | None = None
    """Of the map file; None for a map of Python's."""
    always_hooked: bool = False
    """Whether it needs hooks also on one device: a model of a pipeline, whose inputs come from
    another."""

    @cached_property
    def device_map(self) -> Mapping[str, str]:
        """Entry -> device, stand-ins applied."""
        return {key: self.here(entry.device) for key, entry in self.entries.items()}

    @property
    def hf_device_map(self) -> dict[str, int | str]:
        """The same as ``from_pretrained`` takes it."""
        return to_hf_device_map(self.device_map)

    @property
    def hf_main_device(self) -> int | str:
        """The main device as accelerate's hooks have it."""
        return to_hf_device(self.main_device)

    @property
    def devices(self) -> frozenset[str]:
        """Every device of the map."""
        return frozenset(self.device_map.values())

    @property
    def needs_hooks(self) -> bool:
        """Whether inputs must be moved: one device needs no hooks, unless it stands for more."""
        named = [entry.device for entry in self.entries.values()]
        return self.always_hooked or not (is_one_device(named) and is_one_device(self.devices))

    def here(self, device: str) -> str:
        """A device of the map as it is on this machine."""
        return self.stand_ins.get(device, device)

    def is_offloaded(self, device: str) -> bool:
        """Whether weights on `device` wait there for their forward; on a main CPU they run."""
        return device == DISK or (device == CPU and self.main_device not in (CPU, "mps"))

    def execution_device(self, device: str) -> str:
        """Where modules on `device` run."""
        return self.main_device if device in OFFLOAD_DEVICES else device

    def entry_of(self, name: str) -> Entry | None:
        """The entry that governs a module or tensor."""
        key = find_entry(self.entries, name)
        return None if key is None else self.entries[key]

    def device_of(self, name: str) -> str | None:
        """Where a module or tensor is to lie; None where no entry says so."""
        entry = self.entry_of(name)
        return None if entry is None else self.here(entry.device)

    def static_bytes(self) -> dict[str, int]:
        """Weights and buffers that the map foretells, by device; nothing for a bare map."""
        found: dict[str, int] = {}
        if self.content is None:
            return found
        for load in self.content.loads:
            device = self.here(load.device)
            found[device] = found.get(device, 0) + load.weight_bytes + load.buffer_bytes
        for device, num_bytes in self.content.offload_bytes.items():
            found[device] = found.get(device, 0) + num_bytes
        return found


def target_of(map: MapLike, devices: Mapping[str, Any] | None = None) -> Target:
    """A map in any of its forms, as it is to be applied here.

    Parameters
    ----------
    map
        A map file, a mapping as ``from_pretrained`` takes it, or what ``read_map`` gave.
    devices
        Card of the map -> device that stands in for it; None: every card is here.

    Raises
    ------
    InputError
        When the map cannot be read, or a stand-in is for no card of it.
    """
    given = as_device_map(map)
    _refuse_unreadable(given)
    stand_ins = _stand_ins(given, {} if devices is None else _stood_in("devices", devices))
    main = stand_ins.get(_main_device(given), _main_device(given))
    if main == DISK:
        raise InputError(
            f"devices: nothing runs on disk, and {_main_device(given)} is the main device of "
            f'{given.name}; let "cpu" stand in for it'
        )
    return Target(
        name=given.name,
        entries={entry.key: entry for entry in given.entries},
        stand_ins=stand_ins,
        main_device=main,
        content=given.content,
        folder=Path(given.file).parent if given.file else None,
    )


def _refuse_unreadable(given: DeviceMap) -> None:
    for entry in given.entries:
        if entry.device is None:
            where = f"{given.name}:{entry.line}" if entry.line else given.name
            raise InputError(f"{where}: {entry.key}: {entry.problem}")


def refuse_inside_offloaded(target: Target) -> None:
    """Refuse an entry inside another one whose weights are offloaded.

    accelerate takes the weights of the outer entry away, the inner ones among them, and finds no
    values for these afterwards (``attach_align_device_hook_on_blocks``, 1.15).

    Raises
    ------
    InputError
        With both entries.
    """
    for key, entry in target.entries.items():
        outer = find_entry(target.entries, parent(key)) if key else None
        if outer is None or not target.is_offloaded(target.device_map[outer]):
            continue
        if target.device_map[key] != target.device_map[outer]:
            where = f"{entry.file}:{entry.line}: " if entry.line else ""
            raise InputError(
                f"{where}{key!r} on {target.device_map[key]} lies inside {outer!r} on "
                f"{target.device_map[outer]}, and accelerate offloads all of that; name the other "
                f"parts of {outer!r} instead of the whole"
            )


def _main_device(given: DeviceMap) -> str:
    if given.machine is not None:
        return given.machine.main_device
    devices = [entry.device for entry in given.entries if entry.device is not None]
    accelerate = installed_versions("transformers")["accelerate"]
    return chosen_by_accelerate(devices, accelerate) or CPU


def _stood_in(name: str, devices: Any) -> Mapping[Any, Any]:
    if isinstance(devices, Mapping):
        return devices
    raise wrong(name, devices, 'cards of the map and what stands in for them: {"cuda:0": "cpu"}')


def _stand_ins(given: DeviceMap, devices: Mapping[str, Any]) -> dict[str, str]:
    cards = {entry.device for entry in given.entries} - set(OFFLOAD_DEVICES)
    if given.machine is not None:
        cards |= {card.device for card in given.machine.cards}
    found = {}
    for card, device in devices.items():
        key = from_hf_device(card, where="devices")
        if key not in cards:
            known = ", ".join(sorted(cards))
            raise InputError(f"devices: {key} is not a GPU of {given.name}; it has {known}")
        # [meta] is no place for a map, but a stand-in may be: shapes without values.
        found[key] = device if device == "meta" else from_hf_device(device, where=f"devices {key}")
    return found


def device_map(map: MapLike, *, devices: Mapping[str, Any] | None = None) -> dict[str, int | str]:
    """The device map of a map file as ``from_pretrained(device_map=...)`` takes it.

    The file is checked like every map: unknown keys, wrong values and contradictions are refused
    with file and line, which ``yaml.safe_load`` would not do.

    Parameters
    ----------
    map
        A map file, or what `devplan.read_map` or `devplan.suggest` returned.
    devices
        Card of the map -> device that stands in for it, as in `devplan.load`.

    Returns
    -------
    dict
        Module -> ``0`` for ``cuda:0``, or ``"cpu"``, ``"disk"``.

    Raises
    ------
    InputError
        When the file cannot be read or is no map; one line with file, line and remedy.

    Examples
    --------
    >>> AutoModel.from_pretrained(name, device_map=devplan.device_map("maps/x.yaml"))
    """
    return target_of(map, devices).hf_device_map
