"""What would let a model run whose code stops every split that the closed loop tried.

Two things are tried on the machine that was asked for, each by a virtual run, and what ran is
offered with the words to type:

* *the embedding patch*: the same map with what an embedding gives delivered where the ids were, or
  on the main device (`devplan.runtime.advice`);
* *co-location*: blocks pinned to one card, the fewest bytes first: those that met on different
  devices; these and all that is no layer; the stacks that they belong to; the whole model.

The search ends at the first co-location that runs, and no trial begins after `MOST_S`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

from devplan.core import BlockGraph, InputError, Machine, Plan, format_bytes
from devplan.mapfile import covering_modules
from devplan.planning import PlanRequest, plan
from devplan.runtime import advise
from devplan.workflows.constraints import met_in
from devplan.workflows.plan_runner import PlanRunner, VerifiedPlan

MOST_S = 20.0
"""Of the processor.  A trial takes a plan and a run, under a second for most models."""
MOST_CARDS = 3
"""Cards on which a co-location is tried: the main one, then the largest."""

PATCH = (
    "devplan.patch_embeddings({arguments}) after loading with this map, which devplan.load does by "
    "itself: what {names} gives is then delivered {where}"
)
TOGETHER = "{pins}: {blocks} together, {size}"
NO_CARD = (
    "nothing that fits on one GPU lets it run when it is kept together; the whole model, {size} "
    "of weights, fits on none"
)


def cures(stopped: VerifiedPlan, request: PlanRequest, run: PlanRunner) -> tuple[str, ...]:
    """What was tried and ran, in words; or that the whole model fits no card.

    Parameters
    ----------
    stopped
        Where the closed loop ended, without a plan that runs.
    request
        Its pins are the user's.
    run
        Runs a plan.
    """
    if stopped.context is None:
        return ()
    until = time.process_time() + MOST_S
    patched = _patched(stopped, run)
    together = _together(stopped, request, run, until)
    return tuple(cure for cure in (patched, together) if cure)


def _patched(stopped: VerifiedPlan, run: PlanRunner) -> str:
    """The same plan with embeddings patched, if that helps."""
    unrun = replace(stopped.context, runs=(), missed=(), not_run="")
    advice = advise(unrun, run.options, stopped.check)
    if not advice.cures:
        return ""
    given = f"model, {list(advice.names)}"
    return PATCH.format(
        arguments=f'{given}, "{advice.device}"' if advice.device else given,
        names=" and ".join(advice.names),
        where=f"on {advice.device}" if advice.device else "where its token ids are",
    )


def _together(stopped: VerifiedPlan, request: PlanRequest, run: PlanRunner, until: float) -> str:
    graph, whole_fits = stopped.graph, False
    for blocks in _groups(stopped):
        for device in _cards(run.machine):
            if time.process_time() > until:
                return ""
            pins = dict.fromkeys(_modules(blocks, graph), device)
            placed = _planned(graph, request, pins)
            if placed is not None and _runs(run(placed, graph)):
                return _in_words(graph, blocks, pins)
            whole_fits |= placed is not None and len(blocks) == len(graph.names)
    size = sum(block.weight_bytes for block in graph.blocks)
    return "" if whole_fits else NO_CARD.format(size=format_bytes(size))


def _groups(stopped: VerifiedPlan) -> Iterator[frozenset[str]]:
    """Blocks to be put together, in rising bytes; the whole model comes last."""
    graph = stopped.graph
    met = met_in(stopped.context, stopped.record, graph)
    aside = {block.name for block in graph.blocks if not block.stage_bound}
    stacks = {graph.block(name).stack for name in met} - {None}
    of_stacks = {block.name for block in graph.blocks if block.stack in stacks}
    every = frozenset(graph.names)
    groups = {frozenset(met), frozenset(met | aside), frozenset(met | of_stacks), every}

    def weight(names: frozenset[str]) -> tuple[int, int]:
        return sum(graph.block(name).weight_bytes for name in names), len(names)

    yield from sorted((group for group in groups if group), key=weight)


def _modules(blocks: frozenset[str], graph: BlockGraph) -> list[str]:
    """The fewest modules that hold these blocks and no others, as ``--pin`` takes them."""
    found = covering_modules(sorted(blocks), graph.names)
    # [whole model] it has no name of its own.
    return found if "" not in found else sorted({name.partition(".")[0] for name in blocks})


def _cards(machine: Machine) -> list[str]:
    by_size = sorted(machine.cards, key=lambda card: -card.budget_bytes)
    return list(dict.fromkeys([machine.main_device, *(c.device for c in by_size)]))[:MOST_CARDS]


def _planned(graph: BlockGraph, request: PlanRequest, pins: Mapping[str, str]) -> Plan | None:
    try:
        found = plan(graph, replace(request, pins={**request.pins, **pins}))
    except InputError:  # these pins contradict the user's
        return None
    return found if isinstance(found, Plan) else None


def _runs(found: VerifiedPlan) -> bool:
    return found.record is not None and found.record.error is None and not found.errors


def _in_words(graph: BlockGraph, blocks: frozenset[str], pins: Mapping[str, str]) -> str:
    typed = " ".join(f"--pin {name}={device}" for name, device in pins.items())
    size = format_bytes(sum(graph.block(name).weight_bytes for name in blocks))
    whole = len(blocks) == len(graph.names)
    said = "the whole model" if whole else f"{len(blocks)} blocks"
    return TOGETHER.format(pins=typed, blocks=said, size=size)
