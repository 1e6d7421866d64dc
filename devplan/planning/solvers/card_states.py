"""Which cards have been used so far: the states of the chain solver.

A dynamic programme over the order of unequal cards needs to know which cards are taken, not in
which order.  Cards that cannot be told apart (same budget, same base load) need only be counted:
eight equal cards are 9 states instead of 256, sixteen different cards are 2**16.

States are numbered by the number of cards in them (their *layer*), so that one pass over the
layers visits every state after all of its predecessors, and each layer is one numpy operation.
The tables depend on the sizes of the groups alone and are kept for the next call.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

MAX_STEPS = 2_500_000
"""Limit of (state, next card) pairs: 18 different cards have 2.36 million, which take about
0.1 s a pass and 60 MB; 19 would double both."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The states with the same number of cards, and every way to reach each of them."""

    start: int
    stop: int
    before: np.ndarray
    """State before the last card was added; one entry a step.  # [steps]"""
    group: np.ndarray
    """Group of the card that was added.  # [steps]"""
    offsets: np.ndarray
    """Where the steps of each state begin.  # [stop - start]"""


@dataclass(frozen=True, kw_only=True)
class CardStates:
    """All multisets of cards of the given group sizes."""

    digits: np.ndarray
    """Cards of every group in every state.  # [states, groups]"""
    layers: tuple[Layer, ...]

    def before(self, state: int) -> list[tuple[int, int]]:
        """(state before, group of the card added) for every way to reach the state."""
        layer = self.layers[int(self.digits[state].sum()) - 1]
        begin = int(layer.offsets[state - layer.start])
        end = begin + int(np.count_nonzero(self.digits[state]))
        pairs = zip(layer.before[begin:end], layer.group[begin:end], strict=True)
        return [(int(before), int(group)) for before, group in pairs]


def num_steps(sizes: tuple[int, ...]) -> int:
    """How many (state, next card) pairs groups of these sizes have, at most."""
    return prod(size + 1 for size in sizes) * len(sizes)


@lru_cache(maxsize=8)
def card_states(sizes: tuple[int, ...]) -> CardStates:
    """The states for groups of these sizes."""
    dims = tuple(size + 1 for size in sizes)
    codes = np.arange(prod(dims))
    digits = np.stack(np.unravel_index(codes, dims), axis=1)
    order = np.argsort(digits.sum(axis=1), kind="stable")
    rank = np.empty_like(order)
    rank[order] = codes
    strides = np.array([prod(dims[group + 1 :]) for group in range(len(dims))])
    digits = digits[order]
    bounds = np.searchsorted(digits.sum(axis=1), np.arange(1, sum(sizes) + 2))
    layers = tuple(
        _layer(int(start), int(stop), digits, order, rank, strides)
        for start, stop in itertools.pairwise(bounds)
    )
    return CardStates(digits=digits, layers=layers)


def _layer(start, stop, digits, order, rank, strides) -> Layer:
    row, group = np.nonzero(digits[start:stop])
    before = rank[order[start + row] - strides[group]]
    offsets = np.searchsorted(row, np.arange(stop - start))
    return Layer(start=start, stop=stop, before=before, group=group, offsets=offsets)
