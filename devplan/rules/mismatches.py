"""The mismatches of the runs, each once, sorted by what went wrong.

One mistake shows in many layers, phases and runs: events with the same op, message and line of
code are one group, and groups with one cause are one mistake (`one_mistake`).  A group is

* an **offloaded** group when an operand is on meta: a weight without the hook that loads it;
* a **cache** group when the line is reached through transformers' cache classes;
* a **stray** group when an operand is a tensor that no hook moves: a parameter or buffer of a
  module that is not hooked, or a plain attribute;
* a plain **mismatch** otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from devplan.core import MismatchEvent, OperandFact, SourceLine, is_inside, prefixes
from devplan.rules.context import CheckContext

# Where transformers keeps every kind of KV cache.
_CACHE_FILE = "transformers/cache_utils.py"


class MismatchKind(Enum):
    """Why tensors met on different devices."""

    MISMATCH = "mismatch"
    OFFLOADED = "offloaded"
    STRAY = "stray"
    CACHE = "cache"


@dataclass(frozen=True, kw_only=True)
class MismatchGroup:
    """One mistake, or one of the places where it shows."""

    first: MismatchEvent
    modules: tuple[str, ...]
    phases: tuple[str, ...]
    count: int
    also_at: tuple[SourceLine, ...] = ()
    """Other lines of code with the same cause."""


def mismatch_groups(context: CheckContext, kind: MismatchKind) -> tuple[MismatchGroup, ...]:
    """The mismatches of one kind in all runs, in the order in which they first happened."""
    events: dict[tuple[str, str, str], list[MismatchEvent]] = {}
    for run in context.runs:
        for event in run.mismatches:
            if mismatch_kind(event, context) is kind:
                place = str(event.source) if event.source else event.module
                events.setdefault((event.op, event.message, place), []).append(event)
    return tuple(_group(same) for same in events.values())


def one_mistake(
    groups: Iterable[MismatchGroup], cause: Callable[[MismatchGroup], Hashable]
) -> tuple[MismatchGroup, ...]:
    """The groups, those with one cause put together at the place of the first.

    Parameters
    ----------
    cause
        What made a group; None: nothing that it shares with others.
    """
    found: dict[Any, list[MismatchGroup]] = {}
    for index, group in enumerate(groups):
        made_by = cause(group)
        found.setdefault((made_by,) if made_by is not None else index, []).append(group)
    return tuple(map(_together, found.values()))


def _together(groups: list[MismatchGroup]) -> MismatchGroup:
    first = groups[0]
    sources = dict.fromkeys(group.first.source for group in groups if group.first.source)
    return replace(
        first,
        modules=tuple(dict.fromkeys(module for group in groups for module in group.modules)),
        phases=tuple(dict.fromkeys(phase for group in groups for phase in group.phases)),
        count=sum(group.count for group in groups),
        also_at=tuple(source for source in sources if source != first.first.source),
    )


def _group(events: list[MismatchEvent]) -> MismatchGroup:
    return MismatchGroup(
        first=events[0],
        modules=tuple(dict.fromkeys(event.module for event in events)),
        phases=tuple(dict.fromkeys(event.phase for event in events)),
        count=sum(event.count for event in events),
    )


def mismatch_kind(event: MismatchEvent, context: CheckContext) -> MismatchKind:
    """What went wrong in one event."""
    if is_offloaded(event):
        return MismatchKind.OFFLOADED
    lines = (*event.stack, *([event.source] if event.source else []))
    if any(line.file.endswith(_CACHE_FILE) for line in lines):
        return MismatchKind.CACHE
    return (
        MismatchKind.STRAY if stray_operand(event, context) is not None else MismatchKind.MISMATCH
    )


def is_offloaded(event: MismatchEvent) -> bool:
    """Whether a tensor took part that has no values, as a weight outside of its hook."""
    return any(operand.device == "meta" for operand in event.operands)


def broke_inside(module: str, context: CheckContext) -> bool | None:
    """Whether a run met a mismatch in a module that the map splits; None where no run reached it.

    Of layers that are alike one is run, so that a mismatch in another module of the class counts.
    """
    executed = {name for run in context.runs for name in run.executed}
    if not any(is_inside(name, module) or is_inside(module, name) for name in executed):
        return None
    kind = context.structure.modules[module]
    alike = {
        name
        for name, other in context.structure.modules.items()
        if other == kind and len(context.devices_inside(name)) > 1
    }
    events = (event for run in context.runs for event in run.mismatches)
    return any(alike.intersection(prefixes(event.module)) for event in events)


def split_around(event: MismatchEvent, context: CheckContext) -> tuple[str, ...]:
    """The split modules of the class in which tensors met; none where it is whole.

    Only for what DP301 reports: a tensor that no hook moves is another mistake.
    """
    split = context.split_whole_modules
    around = next((m for m in split if is_inside(event.module, m)), None)
    if around is None or mismatch_kind(event, context) is not MismatchKind.MISMATCH:
        return ()
    classes = context.structure.modules
    return tuple(module for module in split if classes[module] == classes[around])


def stray_operand(event: MismatchEvent, context: CheckContext) -> OperandFact | None:
    """The operand that no hook moves, if there is one.

    A plain attribute may be on the right device and its partner on the wrong one: an activation
    that was kept.  It is stray where the module's code does not run.
    """
    home = context.runs_at(event.module)
    for operand in event.operands:
        if operand.name is None:
            continue
        tensor = context.structure.tensors.get(operand.name)
        if operand.device != home if tensor is None else not context.is_hooked(tensor.owner):
            return operand
    return None


def odd_operands(event: MismatchEvent, context: CheckContext) -> tuple[OperandFact, ...]:
    """Operands that are not where the module's code runs; all, where none is there."""
    home = context.runs_at(event.module)
    odd = tuple(operand for operand in event.operands if operand.device != home)
    return odd or event.operands


def mixture(operands: Iterable[OperandFact]) -> str:
    """``self on cuda:0 and indices[0] on cuda:1``."""
    by_device: dict[str, list[str]] = {}
    for operand in operands:
        by_device.setdefault(operand.device, []).append(operand.name or operand.argument)
    return " and ".join(f"{', '.join(names)} on {d}" for d, names in by_device.items())
