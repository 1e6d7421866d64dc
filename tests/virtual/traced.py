"""One forward of a model on one virtual card, followed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from devplan.models.blocks import BlockSite
from devplan.virtual.calls import ForwardCall
from devplan.virtual.run import dispatched, on_one_card
from devplan.virtual.tracing import Trace


def traced(
    model: nn.Module,
    sites: tuple[BlockSite, ...],
    inputs: Mapping[str, Any],
    *,
    trace: Trace | None = None,
    fold: bool = False,
    **options: Any,
) -> Trace:
    """What the run showed; `trace` holds what ran before an exception."""
    trace = trace or Trace()
    with dispatched(on_one_card(model, getattr(model, "config", None), sites)) as placed:
        placed.follow(inputs, call=ForwardCall(), observers=(trace,), fold=fold, **options)
    return trace
