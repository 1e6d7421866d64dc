"""What a placement takes in time: work on the cards, and crossings between them.

With naive pipelining one card works at a time, so the time of a step is a sum.  A block takes the
larger of its arithmetic over the card's speed and of the bytes that it reads over the card's
bandwidth (a roofline): the first counts in a prefill, the second in a decode step, where it reads
its weights and its cache.  To that come the copies: of activations to the next stage, of shared
activations to each block elsewhere, and of offloaded weights to the card that runs them.

A *request* weighs the two: one prefill of the whole context and `NEW_TOKENS` new tokens.  The
decode steps are taken to be as long as the last one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from devplan.core import (
    DECODE,
    OFFLOAD_DEVICES,
    PREFILL,
    STEPS,
    WHOLE_RUN,
    Block,
    BlockGraph,
    CardTime,
    Machine,
    Plan,
    Route,
    RunRecord,
    StepWork,
    Timing,
    Traffic,
    Work,
    Workload,
    num_decode_steps,
)
from devplan.machine import Speed, link_between
from devplan.planning.routes import execution_device, shared_copies_of, transfers_of

NEW_TOKENS = 256
"""Of a request.  [choice] about a page of text; answers are shorter in chats and longer where a
model reasons.  A decode step then weighs 255 times as much as the prefill."""

RUN_STEPS = 3
"""The prompt is that much shorter than the context, as in the runs of `devplan.check`."""

ASSUMED_WEIGHT_BYTES = 2
"""Of one weight, where no run was counted: 16 bits."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """What is asked of the model, in steps and tokens."""

    graph: BlockGraph
    workload: Workload

    @cached_property
    def prompt_tokens(self) -> int:
        return max(self.workload.tokens - RUN_STEPS, 1)

    @cached_property
    def new_tokens(self) -> int:
        """1 where the model was run and has no decode steps: it does not generate."""
        works = [block.work for block in self.graph.blocks]
        generates = any(work is None or work.decode != Work() for work in works)
        return NEW_TOKENS if generates else 1

    @property
    def num_steps(self) -> Mapping[str, int]:
        return {PREFILL: 1, DECODE: num_decode_steps(self.new_tokens)}

    def tokens(self, step: str) -> int:
        """That enter the model in a step, all sequences together."""
        return self.workload.batch * (self.prompt_tokens if step == PREFILL else 1)

    def weighed(self, by_step: Mapping[str, float]) -> float:
        """Seconds of the request, from those of each step."""
        return sum(self.num_steps[step] * by_step[step] for step in STEPS)

    # --------------------------------------------------------------------------------- work

    def block_seconds(self, block: Block, step: str, speed: Speed) -> float:
        """What a block takes in a step on a card of that speed."""
        work = (block.work or self._assumed(block)).at(step)
        cached = self._cache_bytes(block) if step == DECODE else 0
        return speed.seconds(work.flops, work.read_bytes + cached)

    def between_seconds(self, step: str, speed: Speed) -> float:
        """What the code between the blocks takes on the main device."""
        work = (self.graph.between_work or StepWork()).at(step)
        return speed.seconds(work.flops, work.read_bytes)

    def _cache_bytes(self, block: Block) -> int:
        return block.cache_bytes(self.workload.tokens, self.workload.batch)

    def _assumed(self, block: Block) -> StepWork:
        """A dense layer of that many bytes; a look-up reads next to nothing."""
        if block.name == self.graph.embedding:
            return StepWork()
        params = block.weight_bytes / ASSUMED_WEIGHT_BYTES
        works = {
            step: Work(flops=int(2 * params * self.tokens(step)), read_bytes=block.weight_bytes)
            for step in STEPS
        }
        return StepWork(**works)

    # ------------------------------------------------------------------------------- copies

    def copy_seconds(
        self, machine: Machine, source: str, target: str, bytes_per_token: int, num_copies: int = 1
    ) -> float:
        """What a request takes to copy that much for each token, in that many copies a step."""
        if source == target:
            return 0.0
        link = link_between(machine, source, target)
        return self.weighed(
            {s: link.seconds(self.tokens(s) * bytes_per_token, num_copies) for s in STEPS}
        )


def predicted_traffic(
    graph: BlockGraph, machine: Machine, workload: Workload, placement: Mapping[str, str]
) -> Traffic:
    """What crosses between devices, from what enters the blocks."""
    request = Request(graph=graph, workload=workload)
    crossings: dict[tuple[str, str], list[int]] = {}
    for source, target, num_copies, num_bytes in _crossings(graph, machine, placement):
        sums = crossings.setdefault((source, target), [0, 0])
        sums[0], sums[1] = sums[0] + num_copies, sums[1] + num_bytes
    routes = []
    for step in STEPS if request.new_tokens > 1 else STEPS[:1]:
        loads = dict(offload_copies(graph, machine, placement, step))
        for ends, (copies, size) in crossings.items():
            routes.append(copies_on_link(machine, step, *ends, copies, size * request.tokens(step)))
        for ends, (copies, size) in loads.items():
            routes.append(copies_on_link(machine, step, *ends, copies, size))
    return Traffic(basis="graph", prompt_tokens=request.prompt_tokens, routes=tuple(routes))


def copies_on_link(
    machine: Machine, step: str, source: str, target: str, num_copies: int, num_bytes: int
) -> Route:
    """All copies of a step from one device to another, with the time that their link takes."""
    link = link_between(machine, source, target)
    return Route(
        step=step,
        source=source,
        target=target,
        num_copies=num_copies,
        num_bytes=num_bytes,
        link=link.name,
        seconds=link.seconds(num_bytes, num_copies),
    )


def _crossings(
    graph: BlockGraph, machine: Machine, placement: Mapping[str, str]
) -> Iterator[tuple[str, str, int, int]]:
    """(source, target, copies, bytes for one token of one sequence) of activations."""
    for each in transfers_of(graph, placement, machine.main_device):
        yield each.source, each.target, 1, each.bytes_per_token
    for each in shared_copies_of(graph, placement, machine.main_device):
        yield each.source, each.target, each.num_copies, each.bytes_per_token


def offload_copies(
    graph: BlockGraph, machine: Machine, placement: Mapping[str, str], step: str
) -> Iterator[tuple[tuple[str, str], tuple[int, int]]]:
    """Tier and main device -> (blocks, bytes) that are copied in a step; what idles is not."""
    for tier in OFFLOAD_DEVICES:
        lying = [
            block
            for block in graph.blocks
            if placement[block.name] == tier
            and (block.work is None or block.work.at(step) != Work())
        ]
        if lying:
            size = sum(block.weight_bytes for block in lying)
            yield (tier, machine.main_device), (len(lying), size)


def predicted_timing(
    graph: BlockGraph,
    machine: Machine,
    workload: Workload,
    speeds: Sequence[Speed],
    placement: Mapping[str, str],
    traffic: Traffic,
    lower_bound_s: float,
) -> Timing:
    """What the request takes on every card and between them."""
    request = Request(graph=graph, workload=workload)
    speed_of = dict(zip(machine.devices, speeds, strict=True))
    main = machine.main_device
    seconds = {
        device: {s: request.between_seconds(s, speed_of[main]) * (device == main) for s in STEPS}
        for device in machine.devices
    }
    for block in graph.blocks:
        device = execution_device(placement[block.name], main)
        for step in STEPS:
            seconds[device][step] += request.block_seconds(block, step, speed_of[device])
    return Timing(
        prompt_tokens=request.prompt_tokens,
        new_tokens=request.new_tokens,
        cards=tuple(
            CardTime(device=device, prefill_s=by_step[PREFILL], decode_s=by_step[DECODE])
            for device, by_step in seconds.items()
        ),
        transfer_s={step: traffic.seconds(step) for step in STEPS},
        lower_bound_s=lower_bound_s,
    )


# ------------------------------------------------------------------------------- lower bound

MAX_ROUNDS = 200
"""Of the search for prices; the bound holds after each, and rises by less than a thousandth after
some fifty on the machines of ``benchmarks``."""


def fastest_bound(
    seconds: np.ndarray, loads_bytes: np.ndarray, rooms_bytes: Sequence[int], attained_s: float
) -> float:
    """Seconds that no placement goes below, crossings left out.

    Every price of a byte on a card gives a bound: each unit goes where its time and the price of
    its bytes together are least, and the price of the whole card is taken off (Lagrange).  With
    free bytes all units are on their fastest card; prices rise where more goes than there is room.

    Parameters
    ----------
    seconds
        Of every unit on every card.  # [units, cards]
    loads_bytes
        # [units]
    rooms_bytes
        What each card may hold.  # [cards]
    attained_s
        What some placement takes; guides the steps.
    """
    scale = max(float(sum(rooms_bytes)), 1.0)
    loads = loads_bytes[:, None] / scale  # [units, 1]
    rooms = np.array(rooms_bytes, dtype=float) / scale
    prices = np.zeros(len(rooms))
    units = np.arange(len(seconds))
    bound = 0.0
    for _ in range(MAX_ROUNDS):
        priced = seconds + loads * prices
        chosen = priced.argmin(axis=1)
        value = float(priced[units, chosen].sum() - (prices * rooms).sum())
        bound = max(bound, value)
        excess = np.bincount(chosen, weights=loads[:, 0], minlength=len(rooms)) - rooms
        excess[(prices <= 0) & (excess < 0)] = 0.0
        norm = float((excess**2).sum())
        if norm == 0 or value >= attained_s:
            break
        prices = np.maximum(prices + (attained_s - value) / norm * excess, 0.0)
    return min(bound, attained_s)


# --------------------------------------------------------------------------------- recorded traffic
#
# The graph knows only the tensors that enter blocks.  A run of the plan records every copy: deep
# features that a tower hands to several layers, an encoder's output that every layer of a decoder
# takes, a cache that layers share, masks that code makes and moves, and the output that accelerate
# brings back.  So the run's figures replace the graph's, in the plan and in the time of its
# transfers.


def with_recorded_traffic(
    plan: Plan, record: RunRecord | None, graph: BlockGraph, machine: Machine, workload: Workload
) -> Plan:
    """The plan with the traffic of its run, where the run was one at the workload."""
    if graph.components and record is not None and record.error is None:
        return replace(plan, traffic=_pipeline_traffic(record, machine, workload))
    prompt_tokens = Request(graph=graph, workload=workload).prompt_tokens
    if record is None or record.error is not None:
        return plan
    if record.prompt_tokens not in (None, prompt_tokens):  # [user] None: inputs of their own
        return plan
    traffic = recorded_traffic(record, machine)
    timing = plan.timing
    if timing is not None:
        timing = replace(timing, transfer_s={step: traffic.seconds(step) for step in STEPS})
        # [bound] what was attained is one too, should the run copy less than the graph foretells.
        bound_s = min(timing.lower_bound_s, timing.request_s)
        timing = replace(timing, lower_bound_s=bound_s)
    return replace(plan, traffic=traffic, timing=timing)


def without_uncounted(plan: Plan, graph: BlockGraph, *, is_proven: bool) -> Plan:
    """The plan that says nothing of what no run counted.

    Parameters
    ----------
    is_proven
        Whether the run of the plan, if one was asked for, came to its end.
    """
    has_run = len(graph.unexecuted) < len(graph.blocks)
    has_needs = graph.between is not None or any(block.activation for block in graph.blocks)
    unknown = ("cache_bytes",) * (not has_run) + ("activation_bytes",) * (not has_needs)
    loads = tuple(
        replace(load, uncounted=tuple(name for name in unknown if not getattr(load, name)))
        for load in plan.loads
    )
    is_counted = has_run and is_proven
    plan = replace(plan, loads=loads, traffic=plan.traffic if is_counted else None)
    if is_proven and not unknown:
        return plan
    certificate = replace(
        plan.certificate, most_tokens=None, most_tokens_bound=None, first_full=None
    )
    return replace(plan, certificate=certificate)


def _pipeline_traffic(record: RunRecord, machine: Machine, workload: Workload) -> Traffic:
    """Every copy between devices of a pipeline's run."""
    known = {*machine.devices, *OFFLOAD_DEVICES}
    sums: dict[tuple[str, str, str], list[int]] = {}
    for event in record.transfers:
        ends = (event.source_device, event.target_device)
        if known.issuperset(ends):
            total = sums.setdefault((WHOLE_RUN, *ends), [0, 0])
            total[0] += event.count
            total[1] += event.count * event.num_bytes
    return Traffic(
        basis="run",
        prompt_tokens=workload.tokens,
        routes=tuple(copies_on_link(machine, *key, *total) for key, total in sums.items()),
    )


def recorded_traffic(record: RunRecord, machine: Machine) -> Traffic:
    """Copies between devices in the prefill, and in the last decode step of a run."""
    decode = [phase for phase in record.phases if phase.startswith(DECODE)][-1:]
    known = {*machine.devices, *OFFLOAD_DEVICES}
    sums: dict[tuple[str, str, str], list[int]] = {}
    for event in record.transfers:
        ends = (event.source_device, event.target_device)
        is_decode = event.phase.startswith(DECODE)
        if not known.issuperset(ends) or (is_decode and event.phase not in decode):
            continue
        total = sums.setdefault((DECODE if is_decode else PREFILL, *ends), [0, 0])
        total[0] += event.count
        total[1] += event.count * event.num_bytes
    routes = (copies_on_link(machine, *key, *total) for key, total in sums.items())
    return Traffic(
        basis="run",
        prompt_tokens=record.prompt_tokens,
        routes=tuple(sorted(routes, key=lambda each: STEPS.index(each.step))),
    )
