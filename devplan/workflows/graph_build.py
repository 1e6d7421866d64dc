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

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import networkx
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from devplan.checker import RunOptions, run_prepared
from devplan.core import Block, InputError, RunRecord, TransferEvent
from devplan.inputs import NUM_STEPS
from devplan.models import BlockSite, partition
from devplan.rules import CheckContext
from devplan.sandbox import exclusively
from devplan.virtual import CPU, label_of, maker_of, mark, sources_of

__all__ = ["INPUTS", "OUTPUTS", "build_module_graph", "module_graph"]


@exclusively
def module_graph(prepared: CheckContext, options: RunOptions | None = None) -> networkx.DiGraph:
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
    skeleton = prepared.skeleton
    sites = partition(skeleton.model, skeleton.no_split)
    passages = Passages(ends_of({site.name for site in sites}))
    with passages.watch(skeleton.model, sites):
        record, reason = run_prepared(prepared, replace(options or RunOptions(), run="forward"))
    if record is None:
        raise InputError(f"no graph of {prepared.map.name}: {reason}; see devplan check")
    if record.error is not None:
        raise InputError(
            f"no graph of {prepared.map.name}: the run ended with {record.error.type} "
            f"({record.error.message}); see devplan check"
        )
    return build_module_graph(prepared, record, passages)


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


# ----------------------------------------------------------------------------------------- passages
#
# The tensors that enter each block of a split run are noted before accelerate's hooks move
# anything.  Hooks of PyTorch (``register_forward_pre_hook``) run before a module's ``forward``,
# which is what accelerate replaces: a tensor is then still where its maker left it.  Layers that
# are folded are called like all others, so they are seen too.


INPUTS, OUTPUTS = "inputs", "outputs"
"""What goes into the whole model, and what comes out.  A model that has a module of that name
keeps it: see `ends_of`."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A tensor that entered a block, or left the model."""

    target: str
    argument: str
    """Name of the parameter of ``forward``; empty for outputs."""
    sources: frozenset[str]
    """Blocks whose results it holds; empty when the model's code made it out of nothing."""
    device: str
    """Where it lay then."""
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class Ends:
    """Names of the two nodes that are no blocks."""

    inputs: str = INPUTS
    outputs: str = OUTPUTS


def ends_of(names: set[str]) -> Ends:
    """Names of the ends that no block has."""
    return Ends(inputs=_free(INPUTS, names), outputs=_free(OUTPUTS, names))


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"({name})"
    return name


class Passages:
    """The passages of the last forward of a model, in their order."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        self.seen: list[Passage] = []

    @contextlib.contextmanager
    def watch(self, model: nn.Module, sites: tuple[BlockSite, ...]) -> Iterator[None]:
        """Watch what runs inside; the model's own hooks are left as they were."""
        with contextlib.ExitStack() as undo:
            handles = [model.register_forward_pre_hook(self._start, with_kwargs=True)]
            known = set()
            for site in sites:
                if site.module is not None and id(site.module) not in known:
                    known.add(id(site.module))
                    handles.append(self._watch_block(site))
            handles.append(model.register_forward_hook(self._end))
            for handle in handles:
                undo.callback(handle.remove)
            yield

    def _watch_block(self, site: BlockSite) -> Any:
        names = _parameter_names(site.module)

        def enter(_: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> None:
            for position, value in enumerate(args):
                name = names[position] if position < len(names) else str(position)
                self._note(site.name, name, value)
            for name, value in kwargs.items():
                self._note(site.name, name, value)

        return site.module.register_forward_pre_hook(enter, with_kwargs=True)

    def _start(self, _: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> None:
        self.seen.clear()
        for tensor in _tensors((args, dict(kwargs))):
            mark(tensor, None, maker_of(tensor), frozenset((self.ends.inputs,)))

    def _end(self, _: nn.Module, args: tuple, result: Any) -> None:
        self._note(self.ends.outputs, "", result)

    def _note(self, target: str, argument: str, value: Any) -> None:
        for tensor in _tensors(value):
            self.seen.append(
                Passage(
                    target=target,
                    argument=argument,
                    sources=sources_of(tensor),
                    device=str(label_of(tensor) or CPU),
                    num_bytes=tensor.numel() * tensor.element_size(),
                )
            )


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    return (leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor))


def _parameter_names(module: nn.Module) -> list[str]:
    """Positional parameters of ``forward``; those of ``*args`` have none."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(module.forward).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind in positional]
