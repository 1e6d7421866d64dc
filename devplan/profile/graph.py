"""The graph of blocks: what the planner sees of a model.

Execution order is that of the run; blocks that the run did not reach (towers of a text run) keep
their place in the module tree, before the first block after them that ran.
"""

from __future__ import annotations

from collections.abc import Mapping

from devplan.core import Block, BlockGraph, StepWork, Work, is_inside
from devplan.models import BlockSite
from devplan.profile.model import Profile


def build_graph(profile: Profile) -> BlockGraph:
    """The blocks of a profile in execution order, with everything that a plan needs to know."""
    run = profile.run
    main_stacks = _main_stacks(profile)
    stack_of = {site.name: site.stack for site in profile.sites}
    by_name = {}
    for site in profile.sites:
        measured = profile.weights.blocks[site.name]
        by_name[site.name] = Block(
            name=site.name,
            class_name=site.class_name,
            weight_bytes=measured.weight_bytes,
            buffer_bytes=measured.buffer_bytes,
            cache=run.cache.get(site.name, ()),
            activation=profile.activations.blocks.get(site.name),
            loading_bytes=measured.loading_bytes,
            onload_bytes=measured.onload_bytes,
            stack=site.stack,
            stage_bound=_is_spread(profile, site, main_stacks),
            input_bytes_per_token=run.input_bytes_per_token.get(site.name, 0),
            shared_inputs=run.shared_inputs.get(site.name, ()),
            work=_work_of(profile, site.name),
        )
    order = _execution_order([site.name for site in profile.sites], run.order)
    stacks = dict.fromkeys(stack for stack in stack_of.values() if stack is not None)
    if profile.components:  # a pipeline has no main run beside which a stack could be
        stacks = {}
    return BlockGraph(
        blocks=tuple(by_name[name] for name in order),
        tied=profile.weights.tied,
        embedding=profile.embedding,
        head=profile.head,
        towers=tuple(stack for stack in stacks if stack not in main_stacks),
        components=_running_order(profile),
        home=profile.home,
        entered=profile.entered,
        between=profile.activations.between,
        between_work=_work_of(profile, BETWEEN),
        unexecuted=tuple(name for name in order if name not in set(run.order)),
    )


BETWEEN = ""
"""Name of the code between the blocks in a profile."""


def _work_of(profile: Profile, name: str) -> StepWork | None:
    """What a block does, with the weights that it reads as large as they are stored."""
    counted = profile.work.steps.get(name)
    if counted is None:  # it is no part of the steps, unless nothing was counted at all
        return StepWork() if profile.work.steps else None
    steps = {
        step: Work(flops=work.flops, read_bytes=round(_stored_bytes(profile, work.read_bytes)))
        for step, work in counted.items()
    }
    return StepWork(**steps)


def _stored_bytes(profile: Profile, read: Mapping[str, int]) -> float:
    """Bytes read in a run, of weights that are smaller or larger where they are stored."""
    lay = profile.work.parameter_bytes
    stored = profile.weights.blocks
    return sum(
        size * (stored[owner].weight_bytes / lay[owner] if lay[owner] else 1.0)
        for owner, size in read.items()
    )


def _is_spread(profile: Profile, site: BlockSite, main_stacks: set[str]) -> bool:
    """Layers of the main run are; of a pipeline all but the model at whose device it is at home."""
    if profile.components:
        return not (profile.home and is_inside(site.name, profile.home))
    return site.stack in main_stacks


def _running_order(profile: Profile) -> tuple[str, ...]:
    """The components of a pipeline as they ran; those that did not, at the end."""
    ran = dict.fromkeys(name.partition(".")[0] for name in profile.run.order)
    known = [name for name in ran if name in profile.components]
    return (*known, *(name for name in profile.components if name not in ran))


def _main_stacks(profile: Profile) -> set[str]:
    """Stacks that the main run walks through; without a run, the one with the most bytes."""
    executed = set(profile.run.order)
    stacks: dict[str, int] = {}
    found: set[str] = set()
    for site in profile.sites:
        if site.stack is not None:
            measured = profile.weights.blocks[site.name]
            size = measured.weight_bytes + measured.buffer_bytes
            stacks[site.stack] = stacks.get(site.stack, 0) + size
            if site.name in executed:
                found.add(site.stack)
    if found or not stacks:
        return found
    return {max(stacks, key=lambda stack: stacks[stack])}


def _execution_order(tree: list[str], run: tuple[str, ...]) -> list[str]:
    """The run's order, each block that did not run placed before the next in the tree that did."""
    executed = set(run)
    before: dict[str, list[str]] = {}
    waiting: list[str] = []
    for name in tree:
        if name in executed:
            before[name] = waiting
            waiting = []
        else:
            waiting.append(name)
    order: list[str] = []
    for name in run:
        order.extend([*before.get(name, ()), name])
    return order + waiting
