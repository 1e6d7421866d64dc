"""The best contiguous stages by a second method, which shares nothing with the planner.

All blocks in execution order, tied ones at the first of them, nothing pinned, every order of the
cards.  For one order, ``best[i]`` after ``k`` cards is the smallest largest share with which the
first ``k`` cards hold the first ``i`` blocks::

    best[i] = min over j <= i of max(best before [j], (sum of blocks j .. i - 1) / capacity)

which is ``cards x blocks**2`` ratios and needs no search over shares.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from devplan.core.types import BlockGraph


def chain_loads(graph: BlockGraph, tokens: int) -> list[int]:
    """Weights, buffers and cache of every block, tied ones as one.  # [blocks]"""
    first = {}
    for group in graph.tied:
        ordered = [name for name in graph.names if name in group]
        first.update(dict.fromkeys(ordered, first.get(ordered[0], ordered[0])))
    loads: dict[str, int] = {}
    for block in graph.blocks:
        at = first.get(block.name, block.name)
        loads[at] = loads.get(at, 0) + block.load_bytes(tokens)
    return list(loads.values())


def optimum(loads_bytes: Sequence[int], capacities_bytes: Sequence[int]) -> float:
    """Smallest largest share over all contiguous stages and all orders of the cards."""
    orders: Iterable[tuple[int, ...]] = set(itertools.permutations(capacities_bytes))
    if len(set(capacities_bytes)) == 1:
        orders = [tuple(capacities_bytes)]
    return min(_best_in_order(loads_bytes, order) for order in orders)


def _best_in_order(loads_bytes: Sequence[int], order: tuple[int, ...]) -> float:
    sums = np.concatenate([[0], np.cumsum(np.array(loads_bytes, dtype=np.int64))])
    runs = (sums[None, :] - sums[:, None]).astype(float)  # [from, to]
    runs[np.tril_indices(len(sums), -1)] = np.inf
    best = np.where(sums == 0, 0.0, np.inf)
    for capacity in order:
        best = np.maximum(best[:, None], runs / capacity).min(axis=0)
    return float(best[-1])
