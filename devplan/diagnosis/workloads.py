"""What the model was asked to do, read off the frames of the call that failed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch

from devplan.diagnosis.failure_report import SeenWorkload
from devplan.diagnosis.sites import Site

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
