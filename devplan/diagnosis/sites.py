"""The frames of an exception: where in the model it happened.

A *site* is one frame of the traceback.  Its *owner* is the module whose code it runs: ``self`` of a
method of a module, or the module that a hook of accelerate's is about to call.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from torch import nn

from devplan.core import SourceLine
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
