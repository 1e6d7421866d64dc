"""The traffic of a plan as its virtual run showed it: every copy, whoever asked for it.

The graph knows what enters the blocks.  The run knows more: deep features that a tower hands to
several layers, an encoder's output that every layer of a decoder takes, a cache that layers share,
masks that code makes and moves, and the output that accelerate brings back.  So the run's figures
take the place of the graph's, in the plan and in the time of its transfers.
"""

from __future__ import annotations

from dataclasses import replace

from devplan.core import (
    DECODE,
    OFFLOAD_DEVICES,
    PREFILL,
    STEPS,
    WHOLE_RUN,
    BlockGraph,
    Machine,
    Plan,
    RunRecord,
    Traffic,
    Workload,
)
from devplan.planning.speed import Request, route


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
        prompt_tokens=workload.context_tokens,
        routes=tuple(route(machine, *key, *total) for key, total in sums.items()),
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
    routes = (route(machine, *key, *total) for key, total in sums.items())
    return Traffic(
        basis="run",
        prompt_tokens=record.prompt_tokens,
        routes=tuple(sorted(routes, key=lambda each: STEPS.index(each.step))),
    )
