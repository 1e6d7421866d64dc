"""What a virtual run of a plan teaches the planner."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from devplan.core import (
    ActivationGrowth,
    BlockGraph,
    Constraint,
    Finding,
    MismatchEvent,
    Plan,
    RunRecord,
    format_bytes,
    is_inside,
)
from devplan.profile import most_needed, rising
from devplan.rules import CheckContext, entries_that_meet, odd_operands
from devplan.virtual import BETWEEN


@dataclass(frozen=True, kw_only=True, eq=False)
class Learnt:
    """The graph and pins of the next plan, and why they are what they are."""

    graph: BlockGraph
    pins: Mapping[str, str]
    constraints: tuple[Constraint, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Block -> finding that pinned it."""


def learn(
    learnt: Learnt,
    plan: Plan,
    subject: CheckContext,
    errors: tuple[Finding, ...],
) -> Learnt | None:
    """What is known after the runs of a subject; None when they taught nothing.

    Mismatches are those of the first run that has any; of short runs nothing else counts.
    """
    before = learnt
    met = next((run.mismatches for run in subject.runs if run.mismatches), ())
    for event in met if errors else ():
        learnt = _from_mismatch(learnt, event, subject)
    for run in subject.runs:
        if not run.is_short:
            learnt = _from_peaks(learnt, plan, subject, run)
    return None if learnt is before else learnt


def learn_from_warnings(learnt: Learnt, warnings: Iterable[Finding]) -> Learnt | None:
    """Pins for the modules that warnings would move; None where nothing is to be learnt."""
    before = learnt
    for each in warnings:
        block, device = each.module, each.fix.changed_entries.get(each.module)
        if device and block in learnt.graph.names and not _is_pinned(block, learnt.pins):
            learnt = _pinned(learnt, {block: device}, f"{each.code}, {each.message}")
    return None if learnt is before else learnt


# -------------------------------------------------------------------------------- mismatches


def _from_mismatch(learnt: Learnt, event: MismatchEvent, subject: CheckContext) -> Learnt:
    finding = _finding(event)
    pins = {
        block: device
        for name, device in entries_that_meet(event, subject).items()
        for block in learnt.graph.names
        if is_inside(block, name) or is_inside(name, block)
    }
    new = {b: d for b, d in pins.items() if not _is_pinned(b, learnt.pins)}
    if new:
        return _pinned(learnt, new, finding)
    together = _makers(event, subject, learnt.graph)
    tied = any(set(together) <= set(group) for group in learnt.graph.tied)
    return learnt if tied or len(together) < 2 else _tied(learnt, together, finding)


def met_in(subject: CheckContext, record: RunRecord | None, graph: BlockGraph) -> frozenset[str]:
    """Blocks whose code or tensors met on different devices in a run."""
    events = record.mismatches if record is not None else ()
    return frozenset(name for event in events for name in _makers(event, subject, graph))


def _finding(event: MismatchEvent) -> str:
    return f"{event.op} at {event.source or event.module}: {event.message}"


def _is_pinned(block: str, pins: Mapping[str, str]) -> bool:
    return any(is_inside(block, name) or is_inside(name, block) for name in pins)


def _makers(event: MismatchEvent, subject: CheckContext, graph: BlockGraph) -> tuple[str, ...]:
    """The block whose code it is, and those that made what met there on another device."""
    block = subject.structure.block_of(event.module)
    operands = odd_operands(event, subject) if block else event.operands
    names = [block, *(maker for operand in operands for maker in operand.makers)]
    known = set(graph.names)
    return tuple(dict.fromkeys(name for name in names if name in known))


def _pinned(learnt: Learnt, pins: Mapping[str, str], finding: str) -> Learnt:
    changes = tuple(
        Constraint(change=f"{block} on {device}", finding=finding) for block, device in pins.items()
    )
    return replace(
        learnt,
        pins={**learnt.pins, **pins},
        constraints=learnt.constraints + changes,
        reasons={**learnt.reasons, **dict.fromkeys(pins, finding)},
    )


def _tied(learnt: Learnt, blocks: tuple[str, ...], finding: str) -> Learnt:
    constraint = Constraint(change=f"{' and '.join(blocks)} on one device", finding=finding)
    return replace(
        learnt,
        graph=replace(learnt.graph, tied=(*learnt.graph.tied, blocks)),
        constraints=(*learnt.constraints, constraint),
    )


# ------------------------------------------------------------------------------- activations


def _from_peaks(learnt: Learnt, plan: Plan, subject: CheckContext, record: RunRecord) -> Learnt:
    """More room for activations on the cards that the run filled beyond their budget."""
    for peak in record.peaks:
        load = next((load for load in plan.loads if load.device == peak.device), None)
        rest = peak.peak_bytes - peak.weight_bytes - peak.cache_bytes
        if load is None or rest <= load.activation_bytes + load.headroom_bytes:
            continue
        needed = most_needed(record, peak.device)
        if peak.device != subject.main_device:
            needed = _by_a_block(needed, plan, peak.device)
        blamed = max(needed, key=lambda block: needed[block], default=BETWEEN)
        needed[blamed] = max([rest, *needed.values()])
        where = f"at the fullest moment, {peak.module or 'between the blocks'} ({peak.phase})"
        constraint = Constraint(
            change=f"{peak.device} keeps {format_bytes(rest)} for activations",
            finding=f"{format_bytes(load.activation_bytes)} were counted; {where}",
        )
        learnt = replace(
            learnt,
            graph=_raised(learnt.graph, needed, subject),
            constraints=(*learnt.constraints, constraint),
        )
    return learnt


def _by_a_block(needed: dict[str, int], plan: Plan, device: str) -> dict[str, int]:
    """With what is needed between the blocks as the need of a block that is on the card.

    The graph knows such a need of the main card alone.  The block in the middle of the longest
    stage is taken, which is the last to leave the card when stages shift.
    """
    rest = {block: size for block, size in needed.items() if block != BETWEEN}
    stages = [stage.blocks for stage in plan.stages if stage.device == device]
    between = needed.get(BETWEEN, 0)
    if stages and between >= max(rest.values(), default=between):
        longest = max(stages, key=len)
        rest[longest[len(longest) // 2]] = between
    return rest


def _raised(graph: BlockGraph, needed: Mapping[str, int], subject: CheckContext) -> BlockGraph:
    """The graph in which these blocks need at least that much at the workload."""
    tokens, batch = subject.workload.tokens, subject.workload.batch
    blocks = tuple(
        replace(block, activation=_at_least(block.activation, tokens, batch, needed[block.name]))
        if block.name in needed
        else block
        for block in graph.blocks
    )
    between = graph.between
    if BETWEEN in needed:
        between = _at_least(between, tokens, batch, needed[BETWEEN])
    return replace(graph, blocks=blocks, between=between)


def _at_least(
    growth: ActivationGrowth | None, tokens: int, batch: int, num_bytes: int
) -> ActivationGrowth:
    """The growth that reaches what a run needed, raised in proportion at every other context.

    A plan for fewer tokens is made from it next: were only this one point raised, each answer
    would be a little too large again.
    """
    raised = {tokens: num_bytes}
    if growth is not None:
        foretold = growth.bytes_at(tokens, batch)
        if foretold >= num_bytes:
            return growth
        if foretold:
            factor = Fraction(num_bytes, foretold) * Fraction(batch, growth.batch)
            raised = {n: math.ceil(known * factor) for n, known in growth.samples} | raised
    return ActivationGrowth(samples=rising(raised), batch=batch)
