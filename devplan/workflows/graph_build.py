"""From a prepared subject to its module graph.

Nodes are blocks; an edge says that results of one block enter another.  An edge **crosses** when
the two are computed on different devices, or a hook had to copy one of its tensors.  A tensor that
the code between the blocks made out of several blocks' results (text with images put in) comes
from each of them; its copy is counted on one edge.  What that code made out of nothing (masks,
positions) comes from the inputs node.

Copies that no edge shows, since the code between or inside the blocks asked for them, are in the
graph's attribute ``other_transfers``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import networkx

from devplan.checker import Prepared, RunOptions, run_prepared
from devplan.core import Block, InputError, RunRecord, TransferEvent
from devplan.inputs import NUM_STEPS
from devplan.models import partition
from devplan.rules import CheckContext
from devplan.sandbox import exclusively
from devplan.workflows.graph_watching import INPUTS, OUTPUTS, Ends, Passage, Passages, ends_of

__all__ = ["INPUTS", "OUTPUTS", "build_module_graph", "module_graph"]


@exclusively
def module_graph(prepared: Prepared, options: RunOptions | None = None) -> networkx.DiGraph:
    """Run a split model's forward virtually and give its module graph, every block a node.

    Parameters
    ----------
    prepared
        Of ``devplan.checker.preparation.prepare``.
    options
        Images and inputs of the run; what is run is always ``forward``, or a pipeline's own code.

    Returns
    -------
    networkx.DiGraph
        Nodes have ``kind`` (``block``, ``tensor``, ``inputs``, ``outputs``), ``class_name``,
        ``device`` (where it lies), ``runs_on``, ``bytes``, ``stack`` and ``ran``; edges have
        ``bytes``, ``tensors``, ``arguments``, ``crosses`` and ``copies``, all of one run: the
        graph's attribute ``of`` says of what.

    Raises
    ------
    InputError
        When the map cannot be applied, or the model's code fails.
    """
    skeleton = prepared.built.skeleton
    sites = partition(skeleton.model, skeleton.no_split)
    passages = Passages(ends_of({site.name for site in sites}))
    with passages.watch(skeleton.model, sites):
        record, reason = run_prepared(prepared, replace(options or RunOptions(), run="forward"))
    if record is None:
        raise InputError(f"no graph of {prepared.subject.map.name}: {reason}; see devplan check")
    if record.error is not None:
        raise InputError(
            f"no graph of {prepared.subject.map.name}: the run ended with {record.error.type} "
            f"({record.error.message}); see devplan check"
        )
    return build_module_graph(prepared.subject, record, passages)


def build_module_graph(
    subject: CheckContext, record: RunRecord, passages: Passages
) -> networkx.DiGraph:
    """The graph of a run that was watched."""
    ends = passages.ends
    drawn = networkx.DiGraph(
        model=subject.model, map=subject.map.name, inputs=record.inputs, of=_ran(subject)
    )
    drawn.add_node(ends.inputs, **_end(subject, "inputs"))
    for block in subject.structure.graph.blocks:
        drawn.add_node(block.name, **_facts(subject, block, record))
    drawn.add_node(ends.outputs, **_end(subject, "outputs"))
    for passage in passages.seen:
        _add_passage(drawn, subject, passage, ends)
    drawn.graph["other_transfers"] = [_plain(event) for event in _other_transfers(subject, record)]
    return drawn


def _ran(subject: CheckContext) -> str:
    """What was run, of which all numbers are."""
    is_pipeline = bool(subject.structure.graph.components)
    return f"run of {NUM_STEPS} denoising steps" if is_pipeline else "forward"


def _end(subject: CheckContext, kind: str) -> dict[str, Any]:
    main = subject.main_device
    return {
        "kind": kind,
        "class_name": "",
        "device": main,
        "runs_on": main,
        "bytes": 0,
        "stack": None,
        "ran": True,
    }


def _facts(subject: CheckContext, block: Block, record: RunRecord) -> dict[str, Any]:
    is_module = block.name in subject.structure.modules
    return {
        "kind": "block" if is_module else "tensor",
        "class_name": block.class_name,
        "device": " + ".join(sorted(subject.devices_inside(block.name))),
        "runs_on": subject.runs_at(block.name),
        "bytes": block.weight_bytes + block.buffer_bytes,
        "stack": block.stack,
        "ran": block.name in record.executed,
    }


def _add_passage(
    drawn: networkx.DiGraph, subject: CheckContext, passage: Passage, ends: Ends
) -> None:
    target = drawn.nodes[passage.target]["runs_on"]
    sources = sorted(passage.sources) or [ends.inputs]
    is_copied = _is_copied(drawn, subject, passage, sources, ends)
    copied_from = _copied_from(drawn, passage, sources) if is_copied else None
    for source in sources:
        edge = _edge(drawn, source, passage.target)
        edge["bytes"] += passage.num_bytes
        edge["tensors"] += 1
        if passage.argument and passage.argument not in edge["arguments"]:
            edge["arguments"].append(passage.argument)
        # [out of nothing] such a tensor lies wherever the code made it, not with the inputs.
        is_apart = bool(passage.sources) and drawn.nodes[source]["runs_on"] != target
        edge["crosses"] |= is_apart or source == copied_from
        edge["copies"] += source == copied_from


def _edge(drawn: networkx.DiGraph, source: str, target: str) -> dict[str, Any]:
    if not drawn.has_edge(source, target):
        empty = {"bytes": 0, "tensors": 0, "crosses": False, "copies": 0}
        drawn.add_edge(source, target, arguments=[], **empty)
    return drawn.edges[source, target]


def _is_copied(
    drawn: networkx.DiGraph, subject: CheckContext, passage: Passage, sources: list[str], ends: Ends
) -> bool:
    """Whether a hook copied the tensor: on its way into the block, or back to the main device."""
    target = drawn.nodes[passage.target]["runs_on"]
    if passage.target == ends.outputs:
        # What comes out is seen after the hook of the whole model brought it back.
        return passage.device == target and all(
            drawn.nodes[source]["runs_on"] != target for source in sources
        )
    return passage.device != target and subject.is_hooked(passage.target)


def _copied_from(drawn: networkx.DiGraph, passage: Passage, sources: list[str]) -> str:
    """The source that a copy is counted for: one that ran where the tensor lay."""
    there = (s for s in sources if drawn.nodes[s]["runs_on"] == passage.device)
    return next(there, sources[0])


def _other_transfers(subject: CheckContext, record: RunRecord) -> Iterator[TransferEvent]:
    """All but what hooks copied at the door of a block, and the outputs brought back."""
    blocks = set(subject.structure.graph.names)
    for event in record.transfers:
        at_door = event.asked_by == "hook" and event.module in blocks
        if not at_door and event.asked_by != "io":
            yield event


def _plain(event: TransferEvent) -> dict[str, Any]:
    return {
        "source_device": event.source_device,
        "target_device": event.target_device,
        "asked_by": event.asked_by,
        "module": event.module,
        "argument": event.argument,
        "line": str(event.source) if event.source else None,
        "bytes": event.num_bytes,
        "count": event.count,
    }
