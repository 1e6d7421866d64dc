"""What each GPU holds, part by part (``devplan suggest --explain``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from devplan.core import (
    OFFLOAD_DEVICES,
    Block,
    BlockGraph,
    CheckResult,
    Constraint,
    DeviceMemory,
    Finding,
    Infeasible,
    Machine,
    Placement,
    Plan,
    RunRecord,
    Workload,
)
from devplan.machine import reserve_parts
from devplan.mapfile import gib_cell
from devplan.report.terminal import Terminal
from devplan.report.words import layers_in_words

_LARGEST = 4
"""Parts that are named one by one."""


def sums_text(
    result: Plan | Infeasible,
    graph: BlockGraph,
    machine: Machine,
    workload: Workload,
    terminal: Terminal,
    *,
    check: CheckResult | None = None,
    peak_bytes: Mapping[str, int] | None = None,
) -> str:
    """A paragraph for each GPU, with a line for each part of what it holds.

    Parameters
    ----------
    result, graph
        The plan and the blocks that it places; or why there is none, with the placement that
        overflows least.
    machine, workload
        What was planned for.
    check
        Of the virtual run; None where the plan was not run.
    peak_bytes
        GPU -> the most that it held in the virtual run.
    """
    lines = [terminal.paint("What each GPU holds (GiB)", "bold")]
    fullest = {peak.device: peak for run in (check.runs[:1] if check else ()) for peak in run.peaks}
    for load in result.loads:
        here, lying = _blocks_on(load.device, result.placement, graph, machine)
        lines.append(f"  {load.device}")
        lines += _part_lines(load, here, lying, workload, terminal)
        if check and check.runs and load.activation_bytes:
            for line in _phases(check.runs[0], graph, load.device):
                lines += terminal.paragraph(line, first=" " * 14, rest=" " * 16)
        lines += _rest_lines(load, terminal)
        peak, most = fullest.get(load.device), (peak_bytes or {}).get(load.device)
        if peak is not None and most is not None:
            where = f"in {peak.module}" if peak.module else "between the blocks"
            lines += _line(
                most, f"at the fullest moment of the virtual run, {where} ({peak.phase})", terminal
            )
    return "\n".join(lines) + "\n"


def _blocks_on(
    device: str, placement: Placement, graph: BlockGraph, machine: Machine
) -> tuple[list[Block], list[Block]]:
    """Blocks that run on a GPU, and those of them whose weights are there."""
    offloaded = {block.name for block in graph.blocks if placement[block.name] in OFFLOAD_DEVICES}
    here = [
        block
        for block in graph.blocks
        if device == (machine.main_device if block.name in offloaded else placement[block.name])
    ]
    return here, [block for block in here if block.name not in offloaded]


def _part_lines(
    load: DeviceMemory,
    here: Sequence[Block],
    lying: Sequence[Block],
    workload: Workload,
    terminal: Terminal,
) -> list[str]:
    """Weights to activations; a part that is 0 is left out, weights aside."""
    parts = [
        (load.weight_bytes, "weights", _weights_in_words(lying)),
        (load.buffer_bytes, "buffers", ""),
        (load.cache_bytes, "KV cache", _cache_in_words(here, workload)),
        (load.onload_bytes, "onload", "weights of one module of an offloaded block at a time"),
        (load.activation_bytes, "activations", _activations_in_words(load, here)),
    ]
    lines = []
    for num_bytes, name, words in parts:
        if num_bytes or name == "weights":
            lines += _line(num_bytes, f"{name}{': ' if words else ''}{words}", terminal)
    return lines


def _rest_lines(load: DeviceMemory, terminal: Terminal) -> list[str]:
    lines = []
    for part, size in reserve_parts(load.reserve_bytes):
        lines += _line(size, f"reserve, {part}", terminal) if size else []
    if load.headroom_bytes < 0:
        return lines + _line(-load.headroom_bytes, "missing", terminal)
    return lines + _line(load.headroom_bytes, "headroom", terminal)


def _line(num_bytes: int, words: str, terminal: Terminal) -> list[str]:
    return terminal.paragraph(words, first=f"  {gib_cell(num_bytes):>8}  ", rest=" " * 14)


def _weights_in_words(blocks: Sequence[Block]) -> str:
    sizes: dict[str, int] = {}
    members: dict[str, list[str]] = {}
    for block in blocks:
        key = block.stack or block.name
        sizes[key] = sizes.get(key, 0) + block.weight_bytes
        members.setdefault(key, []).append(block.name)
    largest = sorted((key for key in sizes if sizes[key]), key=lambda key: -sizes[key])
    named = [_named(members[key], sizes[key]) for key in largest[:_LARGEST]]
    rest = sum(sizes[key] for key in largest[_LARGEST:])
    if rest:
        named.append(f"others {gib_cell(rest)}")
    return ", ".join(named)


def _named(blocks: Sequence[str], num_bytes: int) -> str:
    name = blocks[0] if len(blocks) == 1 else layers_in_words(blocks)
    return f"{name} {gib_cell(num_bytes)}"


def _cache_in_words(blocks: Iterable[Block], workload: Workload) -> str:
    holding = [block for block in blocks if block.cache]
    number = f"{len(holding)} block{'' if len(holding) == 1 else 's'}"
    return f"of {number}, {workload.tokens:,} tokens x batch {workload.batch}"


def _activations_in_words(load: DeviceMemory, blocks: Iterable[Block]) -> str:
    if not load.activation_block:
        return "of the code between the blocks"
    most = next(block for block in blocks if block.name == load.activation_block)
    is_loading = load.activation_bytes == most.loading_bytes
    return f"most in {most.name}{' while it is loaded' if is_loading else ''}"


def _phases(run: RunRecord, graph: BlockGraph, device: str) -> list[str]:
    """What needed most on a card in each phase of the run as split: ``decode: lm_head 0.01``."""
    phases: dict[str, dict[str, int]] = {}
    for item in run.activations:
        if item.device == device:
            needed = phases.setdefault(item.phase.split(" ")[0], {})  # the decode steps are one
            kind = _kind(item.block, graph)
            needed[kind] = max(needed.get(kind, 0), item.num_bytes)
    lines = []
    for phase, needed in phases.items():
        largest = sorted(needed, key=lambda kind: -needed[kind])[:_LARGEST]
        lines.append(f"{phase}: {', '.join(f'{k} {gib_cell(needed[k])}' for k in largest)}")
    return lines


def _kind(block: str, graph: BlockGraph) -> str:
    if not block:
        return "between the blocks"
    stack = graph.block(block).stack if block in graph.names else None
    return f"a layer of {stack}" if stack else block


def does_not_run(
    errors: Sequence[Finding], constraints: Sequence[Constraint], cures: Sequence[str] = ()
) -> list[str]:
    """What to do when no plan was found that runs, in paragraphs."""
    first = errors[0]
    place = f" at {first.source}" if first.source else ""
    learnt = (
        f" although the plan kept to {len(constraints)} constraints learnt from runs"
        if constraints
        else ""
    )
    stops = (
        f"No map was written: {first.code}{place} stops every plan that was tried{learnt}. Repair "
        "that line, or use one GPU that holds the whole model, or --no-verify to write the map "
        "all the same."
    )
    return [stops, *(f"Tried virtually: {cure}." for cure in cures)]
