"""The machine at hand beside a map: what the rules of the environment (DP5xx) find, gravest first.

    map + environment (+ model) -> findings

Nothing is read here: ``devplan.environment`` reads the machine and the model.  Each GPU of the map
is compared with the one of its own number, since the map would put it there.  Where that differs
but the machine has GPUs for the map under other numbers, one finding says so instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from devplan.core import DeviceMapFile, Environment, Finding, FoundCard, ModelFacts, Severity
from devplan.environment import Need, assignment, needs_of, renewal_command
from devplan.rules.card_missing import missing_card, no_cards
from devplan.rules.card_of_another_kind import other_kind
from devplan.rules.card_smaller import smaller_card
from devplan.rules.cards_hidden import visibility_differences
from devplan.rules.cards_moved import moved_cards
from devplan.rules.cards_unusable import compare_cuda
from devplan.rules.memory_in_use import memory_held
from devplan.rules.model_differs import other_model
from devplan.rules.offload_room import compare_offload
from devplan.rules.release_too_old import too_old
from devplan.rules.setting_in_the_way import settings_in_the_way
from devplan.rules.unknown_module import entries_without_module
from devplan.rules.versions_differ import class_not_installed, compare_releases
from devplan.rules.weights_unpacked import compare_packing

CARD_MISSING = "DP503"
OFFLOAD_ROOM = "DP510"
OF_CARDS = frozenset({"DP503", "DP504", "DP505", "DP506", "DP507", "DP508", "DP511"})
"""Codes of the findings about GPUs."""

_GRAVEST_FIRST = (Severity.ERROR, Severity.WARNING, Severity.NOTE)


def differences(
    map_file: DeviceMapFile, environment: Environment, model: ModelFacts | None = None
) -> tuple[Finding, ...]:
    """What differs from the map, before a byte is loaded.

    Parameters
    ----------
    map_file
        The map; where it is locked, its lock is compared too.
    environment
        As `read_environment` found it.
    model
        The model that is to be loaded; None: it is not compared.

    Returns
    -------
    tuple of Finding
        Errors, then warnings, then notes.  An error means that the map cannot be used so.

    Examples
    --------
    >>> found = differences(map_file, read_environment())          # doctest: +SKIP
    >>> [each.message for each in found if each.severity is Severity.ERROR]  # doctest: +SKIP
    """
    remake = f"make the map again: {renewal_command(map_file, environment)}"
    found = [
        *compare_cards(map_file, environment),
        *(compare_model(map_file, model, remake) if model is not None else ()),
        *compare_releases(map_file, environment, remake),
        *compare_packing(map_file, environment),
        *compare_offload(map_file, environment, remake),
        *obstacles(environment),
    ]
    return _sorted(found)


def compare_model(map_file: DeviceMapFile, model: ModelFacts, remake: str) -> Iterator[Finding]:
    """What differs between the map's model and the one at hand.

    A class or a size that differs is an error: the entries fit another model.  Another
    configuration of the same class and size is a warning, another revision of the same
    configuration a note.
    """
    if model.is_class_installed is False:
        yield class_not_installed(map_file, model)
        return
    other = other_model(map_file, model, remake)
    if other is not None:
        yield other
    if model.class_name in (None, map_file.model.class_name):
        yield from entries_without_module(map_file, model, remake)


def obstacles(environment: Environment) -> tuple[Finding, ...]:
    """What stands in the way of any map on this machine."""
    return _sorted(
        [
            *compare_cuda(environment),
            *too_old(environment),
            *visibility_differences(environment),
            *settings_in_the_way(environment),
        ]
    )


def errors(found: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Those that matter."""
    return tuple(each for each in found if each.severity is Severity.ERROR)


def _sorted(found: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(found, key=lambda each: _GRAVEST_FIRST.index(each.severity)))


def compare_cards(map_file: DeviceMapFile, environment: Environment) -> Iterator[Finding]:
    """What differs between the map's cards and the machine's."""
    needs = needs_of(map_file)
    if needs and not environment.cards:
        yield no_cards(needs)
        return
    remake = f"plan for this machine: {renewal_command(map_file, environment)}"
    as_numbered = [d for need in needs for d in _of_card(need, environment, remake)]
    found = assignment(needs, environment.cards)
    if found is None or all(old == new for old, new in found.items()):
        yield from as_numbered
        return
    elsewhere = [
        difference
        for need in needs
        for difference in _beside(need, environment.card(found[need.device]), environment, remake)
    ]
    if _weight(elsewhere) < _weight(as_numbered):
        yield moved_cards(needs, found, environment, as_numbered, remake)
        yield from elsewhere  # what another order of the cards does not repair
    else:
        yield from as_numbered


def _weight(differences: Sequence[Finding]) -> tuple[int, int]:
    """Errors, then warnings."""
    errors = sum(d.severity is Severity.ERROR for d in differences)
    return errors, sum(d.severity is Severity.WARNING for d in differences)


def _of_card(need: Need, environment: Environment, remake: str) -> Iterator[Finding]:
    card = environment.card(need.device)
    if card is None:
        yield missing_card(need, environment, remake)
    else:
        yield from _beside(need, card, environment, remake)


def _beside(
    need: Need, card: FoundCard, environment: Environment, remake: str
) -> Iterator[Finding]:
    """One card of the map beside the one that would take its place."""
    smaller = list(smaller_card(need, card, remake))
    yield from smaller
    if not any(d.severity is Severity.ERROR for d in smaller):
        yield from memory_held(need, card, environment, remake)
    yield from other_kind(need, card, remake)
