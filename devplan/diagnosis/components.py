"""The story of a model of a pipeline, in the names that the pipeline's map has.

The map of one model is in names of its own (``DeviceMap.part``), in which
modules and entries are looked for; the user reads and changes the file of the whole pipeline.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from devplan.core import Entry, OperandFact, is_inside, joined
from devplan.diagnosis.failure_report import FailureReport, Remedy
from devplan.mapfile import as_device_map


def models_of(holder: Any) -> dict[str, nn.Module]:
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


def in_pipeline(story: FailureReport, component: str) -> FailureReport:
    """The story with the component before every name; as it is where there is none."""
    if not component:
        return story
    return replace(
        story,
        module=None if story.module is None else joined(component, story.module),
        modules=tuple(joined(component, name) for name in story.modules),
        tensors=tuple(_tensor(component, fact) for fact in story.tensors),
        entry=None if story.entry is None else _entry(component, story.entry),
        map_entries=tuple(_entry(component, entry) for entry in story.map_entries),
        remedies=tuple(_remedy(component, remedy) for remedy in story.remedies),
    )


def _tensor(component: str, fact: OperandFact) -> OperandFact:
    return replace(fact, name=joined(component, fact.name)) if fact.name else fact


def _entry(component: str, entry: Entry) -> Entry:
    return replace(entry, key=joined(component, entry.key))


def _remedy(component: str, remedy: Remedy) -> Remedy:
    changed = {joined(component, name): device for name, device in remedy.changed_entries.items()}
    return replace(remedy, changed_entries=changed)
