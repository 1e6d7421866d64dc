"""What the sum of each card is made of, part by part (``devplan suggest --explain``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from devplan.core import (
    OFFLOAD_DEVICES,
    Block,
    BlockGraph,
    CheckResult,
    Constraint,
    DeviceMapFile,
    Finding,
    Plan,
    RunRecord,
)
from devplan.machine import reserve_parts
from devplan.mapfile import gib_cell
from devplan.report.terminal import Terminal
from devplan.report.words import layers_in_words

_LARGEST = 4
"""Parts that are named one by one."""


def sums_text(
    plan: Plan,
    graph: BlockGraph,
    map_file: DeviceMapFile,
    check: CheckResult | None,
    terminal: Terminal,
) -> str:
    """A paragraph for each card, with a line for each part of what it holds.

    Parameters
    ----------
    plan, graph, map_file
        The plan, the blocks that it places, and the map made of it.
    check
        Of the virtual run; None where the plan was not run.
    """
    lines = [terminal.paint("What each card holds (GiB)", "bold")]
    fullest = {peak.device: peak for run in (check.runs[:1] if check else ()) for peak in run.peaks}
    for load in plan.loads:
        here = [block for block in graph.blocks if _runs_on(plan, block, map_file) == load.device]
        lying = [block for block in here if plan.placement[block.name] == load.device]
        lines.append(f"  {load.device}")
        parts = [
            (load.weight_bytes, "weights", _weights_in_words(lying)),
            (load.buffer_bytes, "buffers", ""),
            (load.cache_bytes, "KV cache", _cache_in_words(here, map_file)),
            (load.onload_bytes, "onload", "weights of one module of an offloaded block at a time"),
            (load.activation_bytes, "activations", _activations_in_words(here, graph, map_file)),
            *((size, f"reserve, {part}", "") for part, size in reserve_parts(load.reserve_bytes)),
            (load.headroom_bytes, "headroom", ""),
        ]
        for num_bytes, name, words in parts:
            if num_bytes or name in ("weights", "headroom"):
                lines += terminal.paragraph(
                    f"{name}{': ' if words else ''}{words}",
                    first=f"  {gib_cell(num_bytes):>8}  ",
                    rest=" " * 14,
                )
            if name == "activations" and check and check.runs:
                for line in _phases(check.runs[0], graph, load.device):
                    lines += terminal.paragraph(line, first=" " * 14, rest=" " * 16)
        peak, most = fullest.get(load.device), map_file.verification.peak_bytes.get(load.device)
        if peak is not None and most is not None:
            where = f"in {peak.module}" if peak.module else "between the blocks"
            lines += terminal.paragraph(
                f"at the fullest moment of the virtual run, {where} ({peak.phase})",
                first=f"  {gib_cell(most):>8}  ",
                rest=" " * 14,
            )
    return "\n".join(lines) + "\n"


def _runs_on(plan: Plan, block: Block, map_file: DeviceMapFile) -> str:
    device = plan.placement[block.name]
    return map_file.machine.main_device if device in OFFLOAD_DEVICES else device


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


def _cache_in_words(blocks: Iterable[Block], map_file: DeviceMapFile) -> str:
    workload = map_file.workload
    holding = [block for block in blocks if block.cache]
    number = f"{len(holding)} block{'' if len(holding) == 1 else 's'}"
    return f"of {number}, {workload.tokens:,} tokens x batch {workload.batch}"


def _activations_in_words(
    blocks: Iterable[Block], graph: BlockGraph, map_file: DeviceMapFile
) -> str:
    tokens, batch = map_file.workload.tokens, map_file.workload.batch
    most = max(blocks, key=lambda block: block.activation_bytes(tokens, batch), default=None)
    between = graph.between.bytes_at(tokens, batch) if graph.between else 0
    if most is None or between > most.activation_bytes(tokens, batch):
        return "of the code between the blocks"
    is_loading = most.activation_bytes(tokens, batch) == most.loading_bytes
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
        "that line, or use one card that holds the whole model, or --no-verify to write the map "
        "all the same."
    )
    return [stops, *(f"Tried virtually: {cure}." for cure in cures)]
