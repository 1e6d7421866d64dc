"""Compute capability of the cards of a machine, where it is known."""

from __future__ import annotations

from collections.abc import Iterable

from devplan.catalog import gpus
from devplan.core import Card, InputError, Machine, is_size


def capability_of(card: Card) -> tuple[int, int] | None:
    """Compute capability by the card's name; None for a bare size and for unknown names."""
    if is_size(card.name):
        return None
    try:
        return gpus.find_gpu(card.name).compute_capability
    except InputError:  # a driver may report a name that the catalogue does not have
        return None


def least_capability(machine: Machine) -> tuple[int, int] | None:
    """The smallest that is known among the cards; None where none is."""
    known = [found for card in machine.cards if (found := capability_of(card)) is not None]
    return min(known, default=None)


def least_of_all(machines: Iterable[Machine]) -> tuple[int, int] | None:
    """The smallest that is known among the cards of several machines; None where none is."""
    known = [found for each in machines if (found := least_capability(each)) is not None]
    return min(known, default=None)
