"""The frames of an exception: where in the model it happened.

A *site* is one frame of the traceback.  Its *owner* is the module whose code it runs: ``self`` of a
method of a module, or the module that a hook of accelerate's is about to call.
"""

from __future__ import annotations

import linecache
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import nn

from devplan.core import SourceLine
from devplan.diagnosis.failure_report import SeenWorkload
from devplan.virtual import is_model_code, shown_path

_HOOKS = "accelerate.hooks"
_INNARDS = ("torch._", "torch.library", "torch.utils", "torch.overrides")
"""Modules in which PyTorch computes an op in Python: deeper than any line that asked for it."""
MOST_LINES = 12
"""Of a deep stack the inner part."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """One frame of a traceback."""

    traceback: TracebackType
    owner: nn.Module | None

    @property
    def scope(self) -> Mapping[str, Any]:
        """The local names of the frame."""
        return self.traceback.tb_frame.f_locals

    @property
    def is_model_code(self) -> bool:
        """Whether it is neither torch, accelerate nor Python's own."""
        return is_model_code(self.traceback.tb_frame)

    @property
    def is_inside_op(self) -> bool:
        """Whether PyTorch itself is at work on an op here."""
        name = self.traceback.tb_frame.f_globals.get("__name__") or ""
        return name.startswith(_INNARDS)

    @property
    def line(self) -> SourceLine:
        code = self.traceback.tb_frame.f_code
        number = self.traceback.tb_lineno
        return SourceLine(
            file=shown_path(code.co_filename),
            line=number,
            function=code.co_name,
            text=linecache.getline(code.co_filename, number).strip(),
        )


def sites_of(error: BaseException) -> tuple[Site, ...]:
    """All frames of an exception, outermost first."""
    return tuple(_sites(error.__traceback__))


def _sites(traceback: TracebackType | None) -> Iterator[Site]:
    while traceback is not None:
        yield Site(traceback=traceback, owner=_owner(traceback))
        traceback = traceback.tb_next


def _owner(traceback: TracebackType) -> nn.Module | None:
    frame = traceback.tb_frame
    name = "module" if frame.f_globals.get("__name__") == _HOOKS else "self"
    owner = frame.f_locals.get(name)
    return owner if isinstance(owner, nn.Module) else None


def module_names(model: nn.Module | None) -> dict[int, str]:
    """``id`` -> dotted name of every module of a model."""
    return {} if model is None else {id(module): name for name, module in model.named_modules()}


def innermost_named(sites: tuple[Site, ...], names: Mapping[int, str]) -> Site | None:
    """The innermost frame that runs code of a module of the model."""
    return next((site for site in reversed(sites) if id(site.owner) in names), None)


def model_lines(sites: tuple[Site, ...]) -> tuple[SourceLine, ...]:
    """Lines of the model's code and of those who called it, outermost first."""
    return tuple(site.line for site in sites if site.is_model_code)[-MOST_LINES:]


# The workload of the failed call, read from the arguments in its frames.


_INPUTS = ("input_ids", "inputs_embeds", "decoder_input_ids")
"""Names of transformers for what holds one row a sequence and one column a token."""


def seen_workload(sites: tuple[Site, ...], names: Collection[int]) -> SeenWorkload | None:
    """Batch and tokens of the longest input in the frames; None where none has any.

    `names` are the ``id`` of the modules: of the frames around the traceback only those that
    run the model's own code are looked at.
    """
    scopes = [site.scope for site in sites] + _callers(sites, names)
    shapes = [tensor.shape[:2] for scope in scopes for tensor in _inputs(scope)]
    if not shapes:
        return None
    batch, tokens = max(shapes, key=lambda shape: shape[0] * shape[1])
    ends = [end for scope in scopes if (end := _end(scope)) is not None]
    return SeenWorkload(batch=int(batch), tokens=int(tokens), end_tokens=max(ends, default=None))


def _callers(sites: tuple[Site, ...], names: Collection[int]) -> list[Mapping[str, Any]]:
    """Local names of the model's own code around the traceback: ``generate`` around a forward."""
    frame = sites[0].traceback.tb_frame.f_back if sites else None
    found = []
    while frame is not None:
        if id(frame.f_locals.get("self")) in names:
            found.append(frame.f_locals)
        frame = frame.f_back
    return found


def _inputs(scope: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    kwargs = scope.get("kwargs")
    for names in (scope, kwargs if isinstance(kwargs, dict) else {}):
        for name in _INPUTS:
            value = names.get(name)
            if isinstance(value, torch.Tensor) and value.dim() >= 2:
                yield value


def _end(scope: Mapping[str, Any]) -> int | None:
    """Tokens at which ``generate`` stops, in the frames that know."""
    config = scope.get("generation_config")
    end = getattr(config, "max_length", None)
    return end if isinstance(end, int) and "input_ids" in scope else None
