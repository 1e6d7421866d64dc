"""What the transfer cache would save on a map, on cards that are not here.

The model's own code runs virtually with accelerate's real hooks and the real cache on them.  Layers
are not folded: of two that are alike, the second finds what the first had moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from devplan.checker import RunOptions, run_prepared
from devplan.core import InputError, RunRecord
from devplan.rules.context import CheckContext
from devplan.runtime.caching import TransferCache, TransferCounts, cache_transfers
from devplan.virtual import ModelCall


@dataclass(frozen=True, kw_only=True)
class CachedRun:
    """A virtual run with the cache, and the same without."""

    without: RunRecord
    record: RunRecord
    counts: TransferCounts
    """As the cache counts them on a real machine."""


@dataclass(frozen=True, kw_only=True)
class _CachedCall:
    """A call of a model that has a transfer cache for its time."""

    inner: ModelCall
    caches: list[TransferCache] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.inner.name

    def takes(self, model: nn.Module, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.inner.takes(model, inputs)

    def phases(self) -> Iterator[str]:
        return self.inner.phases()

    def run(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        with cache_transfers(model) as cache:
            self.caches.append(cache)
            return self.inner.run(model, inputs)


def run_cached(prepared: CheckContext, options: RunOptions | None = None) -> CachedRun:
    """Run a model and map virtually, without the transfer cache and with it.

    Parameters
    ----------
    prepared
        Of ``devplan.checker.preparation.prepare``.
    options
        How the model is run; every layer is run.

    Raises
    ------
    InputError
        When the map cannot be run at all, with the reason.
    """
    options = replace(options or RunOptions(), full=True)
    without, reason = run_prepared(prepared, options)
    calls: list[_CachedCall] = []

    def around(call: ModelCall) -> Any:
        calls.append(_CachedCall(inner=call))
        return calls[-1]

    record, _ = run_prepared(prepared, options, around)
    if without is None or record is None:
        raise InputError(f"{prepared.map.name} was not run: {reason}")
    # [too many ops] a run that is cut short is made again with fewer tokens: the last one counts.
    return CachedRun(without=without, record=record, counts=calls[0].caches[-1].total)
