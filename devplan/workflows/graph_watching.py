"""What enters each block of a split run, seen before accelerate's hooks move anything.

Hooks of PyTorch (``register_forward_pre_hook``) run before a module's ``forward``, which is what
accelerate replaces: here a tensor still lies where its maker left it.  Layers that are folded are
called like all others, so they are seen too.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from devplan.models import BlockSite
from devplan.virtual import CPU, label_of, maker_of, mark, sources_of

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
