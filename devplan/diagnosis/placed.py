"""A loaded model and its map as the rules of `devplan check` see them, without running anything.

The structure is read off the modules as they are now; the stages are taken to be the stack with the
most bytes, since nothing may run while an exception is on its way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from devplan.checker import structure_as_it_lies
from devplan.core import (
    CPU,
    DEFAULT_CONTEXT,
    Block,
    BlockGraph,
    DeviceMap,
    DeviceMapFile,
    Entry,
    Fix,
    InputError,
    OperandFact,
    Workload,
    chosen_by_accelerate,
    device_map_of,
    is_inside,
    joined,
)
from devplan.diagnosis.failure_report import FailureReport
from devplan.mapfile import as_device_map, installed_versions, read_map
from devplan.models import BlockSite, declared_no_split, partition
from devplan.profile import block_of
from devplan.rules import CheckContext
from devplan.virtual import hook_device


def placed_subject(model: nn.Module, map: Any = None) -> CheckContext | None:
    """The subject of a loaded model and its map; None where nothing says how it was placed.

    Raises
    ------
    InputError
        When the map cannot be read.
    """
    given = map_of(model, map)
    if given is None:
        return None
    no_split = declared_no_split(model)
    return CheckContext(
        model=model_id(model) or type(model).__name__,
        structure=structure_as_it_lies(model, graph_of(model, no_split), no_split),
        map=given,
        machine=given.machine,
        main_device=_main_device(model, given),
        stated_main=True,
        workload=given.workload or Workload(context=DEFAULT_CONTEXT),
    )


def map_of(model: nn.Module, map: Any = None) -> DeviceMap | None:
    """The map that was given, or the one that the model was dispatched with."""
    if map is not None:
        return as_device_map(map)
    placed = getattr(model, "hf_device_map", None)
    if not placed:
        return None
    given = device_map_of(placed, "hf_device_map")
    return replace(given, entries=tuple(_as_torch_reads(entry) for entry in given.entries))


def _as_torch_reads(entry: Entry) -> Entry:
    """An entry on a device that devplan plans nothing for, and that PyTorch has: ``meta``."""
    if entry.device is not None:
        return entry
    try:
        return replace(entry, device=str(torch.device(entry.written)))
    except RuntimeError:
        return entry


def map_file(map: Any) -> DeviceMapFile | None:
    """A map with everything that devplan wrote beside it; None for a bare one."""
    if isinstance(map, DeviceMapFile):
        return map
    if isinstance(map, DeviceMap):
        return map.content
    if not isinstance(map, str | Path):
        return None
    try:
        return read_map(map)
    except InputError:  # a bare map, which `map_of` reads
        return None


def model_id(model: Any) -> str | None:
    """What the model was loaded from, as its configuration says."""
    return getattr(getattr(model, "config", None), "_name_or_path", None) or None


def graph_of(model: nn.Module, no_split: frozenset[str]) -> BlockGraph:
    """The blocks in the order of the module tree."""
    sites = partition(model, no_split)
    sizes = {site.name: _num_bytes(site) for site in sites}
    stacks: dict[str, int] = {}
    for site in sites:
        if site.stack is not None:
            stacks[site.stack] = stacks.get(site.stack, 0) + sizes[site.name]
    main = max(stacks, key=lambda stack: stacks[stack], default=None)
    blocks = tuple(
        Block(
            name=site.name,
            class_name=site.class_name,
            weight_bytes=sizes[site.name],
            buffer_bytes=0,
            stack=site.stack,
            stage_bound=site.stack is not None and site.stack == main,
        )
        for site in sites
    )
    return BlockGraph(
        blocks=blocks,
        embedding=block_of(sites, _input_embedding(model)),
        towers=tuple(stack for stack in stacks if stack != main),
    )


def _num_bytes(site: BlockSite) -> int:
    held = site.module.parameters() if site.module is not None else (site.tensor,)
    return sum(tensor.numel() * tensor.element_size() for tensor in held)


def _input_embedding(model: nn.Module) -> nn.Module | None:
    try:
        found = model.get_input_embeddings()
    except (AttributeError, NotImplementedError, TypeError, KeyError):
        return None
    return found if isinstance(found, nn.Module) else None


def _main_device(model: nn.Module, given: DeviceMap) -> str:
    """Where accelerate's hook of the whole model puts the inputs; else what it would choose."""
    hooked = hook_device(model)
    if hooked is not None:
        return hooked
    devices = [entry.device for entry in given.entries if entry.device is not None]
    return chosen_by_accelerate(devices, installed_versions("transformers")["accelerate"]) or CPU


def loads_of(file: DeviceMapFile | None) -> Mapping[str, int]:
    """Card -> bytes that the map says the workload needs there, without the reserve."""
    if file is None:
        return {}
    return {load.device: load.load_bytes + load.activation_bytes for load in file.loads}


# The map of one model of a pipeline has names of that model's own (`DeviceMap.part`), in which
# modules and entries are looked up; the user reads and edits the file of the whole pipeline.


def held_models(holder: Any) -> dict[str, nn.Module]:
    """Attribute -> model, of an object that holds models."""
    return {name: held for name, held in vars(holder).items() if isinstance(held, nn.Module)}


def part_for(map: Any, component: str) -> Any:
    """The map of one component; as it is where it has no entry of that component's."""
    if map is None or not component:
        return map
    map = as_device_map(map)
    if any(not entry.key or is_inside(entry.key, component) for entry in map.entries):
        return map.part(component)
    return map


def in_pipeline(report: FailureReport, component: str) -> FailureReport:
    """The report with the component before every name; as it is where there is none."""
    if not component:
        return report
    return replace(
        report,
        module=None if report.module is None else joined(component, report.module),
        modules=tuple(joined(component, name) for name in report.modules),
        tensors=tuple(_tensor(component, fact) for fact in report.tensors),
        entry=None if report.entry is None else _entry(component, report.entry),
        map_entries=tuple(_entry(component, entry) for entry in report.map_entries),
        fixes=tuple(_fix(component, fix) for fix in report.fixes),
    )


def _tensor(component: str, fact: OperandFact) -> OperandFact:
    return replace(fact, name=joined(component, fact.name)) if fact.name else fact


def _entry(component: str, entry: Entry) -> Entry:
    return replace(entry, key=joined(component, entry.key))


def _fix(component: str, fix: Fix) -> Fix:
    changed = {joined(component, name): device for name, device in fix.changed_entries.items()}
    return replace(fix, changed_entries=changed)
