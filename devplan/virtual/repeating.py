"""Which calls may stand for later ones, beside identical layers (`devplan.virtual.folding`).

A pipeline runs its models step after step, and its autoencoder tile after tile: there a call of any
block stands for later calls of the same block with inputs that cannot be told apart.

Exceptions: a call that changed a list which it was given stands for none, in any model.  A video's
autoencoder hands the features of some frames on to the next ones in such lists, and which of the
features are next.  Nor does a call of a single block that gave integers: another may give others.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from devplan.models import BlockSite
from devplan.virtual.folding import Outcome, layer_kinds

Lists = list[tuple[list, tuple[int, ...]]]

_AGAIN = "again"


@dataclass(frozen=True, kw_only=True)
class RanCall:
    """What a representative's call did, to be done again for the layers it stands for."""

    outcome: Outcome
    events: list[tuple[str, Any]]
    kept_bytes: Mapping[torch.device, int]
    """Bytes that lived on after the call, its result aside."""
    peak_bytes: Mapping[torch.device, int]
    """Bytes at the fullest moment of the call beyond those before it."""


def kinds_with_repeats(sites: Iterable[BlockSite], config: Any) -> dict[str, Hashable]:
    """The kinds of layers, and a kind of its own for every other block that is a module."""
    sites = tuple(sites)
    single = {site.name: (_AGAIN, site.name) for site in sites if site.module is not None}
    return {**single, **layer_kinds(sites, config)}


def lists_among(args: tuple, kwargs: Mapping[str, Any]) -> Lists:
    """The lists among the arguments of a call, with what is in them."""
    found: Lists = []
    pending: list[Any] = [*args, *kwargs.values()]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            found.append((value, tuple(map(id, value))))
        if isinstance(value, (list, tuple)):
            pending.extend(item for item in value if isinstance(item, (list, tuple)))
    return found


def are_as_before(lists: Lists) -> bool:
    """Whether a call left the lists that it was given as they were."""
    return all(tuple(map(id, items)) == before for items, before in lists)


def may_stand(outcome: Outcome | None, kind: Hashable) -> bool:
    """Whether what a call gave may be given again for another call of the kind."""
    if outcome is None or kind[0] != _AGAIN:
        return outcome is not None
    return not any(isinstance(leaf, torch.Tensor) for leaf in outcome.leaves)
