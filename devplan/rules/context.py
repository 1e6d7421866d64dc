"""What a rule may look at: the model's structure, the map, the machine, and what runs showed.

A **name** is governed by the longest entry around it.  A module is **hooked** when an entry that
names a module governs it: accelerate then moves its inputs to the entry's device before each
forward.  An entry that names a bare tensor places that tensor and hooks nothing.  The code of a
module that is not hooked **runs at** the main device, where the hook of the whole model puts the
inputs.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from devplan.core import (
    OFFLOAD_DEVICES,
    BlockGraph,
    DeviceMap,
    Entry,
    Finding,
    Machine,
    MissedRun,
    RunRecord,
    Workload,
    find_entry,
    is_one_device,
    parent,
    prefixes,
)

if TYPE_CHECKING:
    from devplan.models import ModelSource, Skeleton


@dataclass(frozen=True, kw_only=True)
class TensorFact:
    """A parameter or buffer under one of its names."""

    name: str
    owner: str
    """Module that it is an attribute of."""
    num_bytes: int
    is_parameter: bool
    persistent: bool
    """Whether it is part of the state dict; only buffers may be not."""
    first_name: str
    """The same for all names of one tensor."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """What is known of a model without running it split."""

    class_name: str
    modules: Mapping[str, str]
    """Every dotted name of every module -> its class."""
    tensors: Mapping[str, TensorFact]
    """Every name of every parameter and buffer."""
    tied: tuple[tuple[str, ...], ...]
    """Names of one parameter in several modules; a module with two names counts once."""
    no_split: frozenset[str]
    """Classes that must stay whole."""
    graph: BlockGraph
    notes: tuple[str, ...] = ()
    by_tensors_only: bool = False
    """Whether the model's code is not available, so that modules without stored tensors "
        "are unknown."""
    packed: bool = False
    """Whether quantized weights count as they are stored where transformers would unpack them."""
    unhooked_on_one_device: bool = False
    """Whether the code that loads the model puts no hooks for a map of one device."""

    @cached_property
    def whole_modules(self) -> tuple[str, ...]:
        """Modules that the model says must stay whole."""
        return tuple(name for name, kind in self.modules.items() if kind in self.no_split)

    @cached_property
    def children(self) -> Mapping[str, tuple[str, ...]]:
        """Module -> the last parts of the names of its own modules and tensors."""
        found: dict[str, list[str]] = {}
        for name in (*self.modules, *self.tensors):
            if name:
                found.setdefault(parent(name), []).append(name.rpartition(".")[2])
        return {module: tuple(names) for module, names in found.items()}

    def block_of(self, name: str) -> str | None:
        """The block that a module or tensor is, or lies in."""
        return next((p for p in prefixes(name) if p in self._block_names), None)

    @cached_property
    def _block_names(self) -> frozenset[str]:
        return frozenset(self.graph.names)


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckContext:
    """One map of one model, and everything that is known about it."""

    model: str
    """As people name it."""
    source: ModelSource | None = None
    skeleton: Skeleton | None = None
    """What runs need, and rules do not look at; None: the model is loaded, and is not run here."""
    structure: Structure
    map: DeviceMap
    machine: Machine | None
    """None: the map says nothing of the cards, and nor did the user."""
    main_device: str
    """Where inputs enter."""
    stated_main: bool = False
    """Whether somebody said so; else it is what accelerate picks."""
    workload: Workload
    """With all that the model decides filled in."""
    runs: tuple[RunRecord, ...] = ()
    """The call at the workload first, then the short ones."""
    missed: tuple[MissedRun, ...] = ()
    """Runs that were to happen and did not."""
    not_run: str = ""
    """Why there is no run, where there is none."""
    installed: Mapping[str, str] = field(default_factory=dict)
    """Versions of the libraries that the check ran with."""
    differences: tuple[Finding, ...] = ()
    """Findings about this machine (`devplan.rules.environment`); empty where it was not asked."""

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        """Entries whose device could be read."""
        return {e.key: e for e in self.map.entries if e.device is not None}

    @cached_property
    def device_map(self) -> Mapping[str, str]:
        """Entry -> device, as devplan writes devices."""
        return {key: entry.device for key, entry in self.entries.items()}

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """All devices of the map, in its order."""
        return tuple(dict.fromkeys(self.device_map.values()))

    @cached_property
    def is_unhooked(self) -> bool:
        """Whether the code that loads the model takes the map without asking accelerate."""
        return self.structure.unhooked_on_one_device and is_one_device(self.devices)

    def found_here(self, code: str, but: Container[str] = ()) -> Iterator[Finding]:
        """The findings of one code about this machine, without those about `but`."""
        return (f for f in self.differences if f.code == code and f.module not in but)

    def is_known(self, key: str) -> bool:
        """Whether an entry's key names something in the model."""
        return not key or key in self.structure.modules or key in self.structure.tensors

    def entry_of(self, name: str) -> Entry | None:
        """The entry that governs a module or tensor."""
        key = find_entry(self.entries, name)
        return None if key is None else self.entries[key]

    def device_of(self, name: str) -> str | None:
        """Where a module's own tensors, or a tensor, lie by the map."""
        key = find_entry(self.entries, name)
        return None if key is None else self.device_map[key]

    def execution_device(self, device: str | None) -> str | None:
        """Where something on `device` is computed: offloaded weights come to the main device."""
        return self.main_device if device in OFFLOAD_DEVICES else device

    def is_hooked(self, module: str) -> bool:
        """Whether a hook moves this module's inputs to its device."""
        return any(p in self.entries and p in self.structure.modules for p in prefixes(module))

    def runs_at(self, module: str) -> str:
        """The device on which a module's own code finds its inputs."""
        for prefix in prefixes(module):
            # [whole model] whatever its entry says, its hook moves inputs to the main device.
            if prefix and prefix in self.entries and prefix in self.structure.modules:
                return self.execution_device(self.device_map[prefix])
        return self.main_device

    def devices_inside(self, module: str) -> frozenset[str]:
        """Devices of all tensors inside a module."""
        return self._devices_inside.get(module, frozenset())

    @cached_property
    def split_whole_modules(self) -> tuple[str, ...]:
        """The outermost modules that the map splits though the model says that they must stay
        whole."""
        whole = self.structure.whole_modules
        split = {module: None for module in whole if len(self.devices_inside(module)) > 1}
        return tuple(
            module
            for module in split
            if module and not any(p in split for p in prefixes(parent(module)) if p)
        )

    @cached_property
    def _devices_inside(self) -> Mapping[str, frozenset[str]]:
        inside: dict[str, set[str]] = {}
        for name in self.structure.tensors:
            device = self.device_of(name)
            if device is not None:
                for prefix in prefixes(name):
                    inside.setdefault(prefix, set()).add(device)
        return {name: frozenset(devices) for name, devices in inside.items()}
