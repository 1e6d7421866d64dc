"""The environment in the map: what ``devplan lock`` writes.

A map is locked to a machine that it fits: a difference that matters is refused.  A machine without
GPUs has nothing to say of cards and driver; there a map is locked to its libraries alone, so that
what is proven on a build server can be told from what runs later.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from devplan.core import (
    DeviceMapFile,
    Environment,
    Finding,
    InputError,
    Lock,
    LockedCard,
    ModelFacts,
    ensure,
)
from devplan.environment import needs_of
from devplan.io import MAP, WriteOutcome, read_text, write_text
from devplan.mapfile import LOCK, loads_map, lock_text, read_map, spliced
from devplan.rules import CARD_MISSING, differences, errors


def locked(
    map_file: DeviceMapFile, environment: Environment, model: ModelFacts | None = None
) -> DeviceMapFile:
    """The map with this environment in it, in the place of one that it was locked to before.

    Raises
    ------
    InputError
        When this machine does not fit the map.
    """
    refused = reasons_against(map_file, environment, model)
    if refused:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise InputError(
            f"not locked, as this machine does not fit the map: {refused[0].message}{more}; "
            f"{refused[0].fix.text}; `devplan doctor MAP` shows all"
        )
    return replace(map_file, environment=lock_to(map_file, environment))


def lock_file(
    path: str | Path, environment: Environment, model: ModelFacts | None = None
) -> tuple[DeviceMapFile, WriteOutcome]:
    """Lock the map in a file: its section is put in, and all else of the file stays as it is.

    Returns
    -------
    The locked map, and whether the file changed.

    Raises
    ------
    InputError
        When the file is no map, this machine does not fit it, or it cannot be written.
    """
    map_file = locked(read_map(path), environment, model)
    text = read_text(path, MAP)
    text = spliced(text, LOCK, lock_text(map_file))
    ensure(loads_map(text, str(path)) == map_file, f"{path} does not read back with its lock")
    return map_file, write_text(text, path, option="MAP")


def reasons_against(
    map_file: DeviceMapFile, environment: Environment, model: ModelFacts | None = None
) -> tuple[Finding, ...]:
    """What matters, the lack of every GPU and what the map was locked to before aside."""
    found = errors(differences(replace(map_file, environment=None), environment, model))
    if environment.cards:
        return found
    return tuple(each for each in found if each.code != CARD_MISSING)


def lock_to(map_file: DeviceMapFile, environment: Environment) -> Lock:
    """What of an environment is written down: the cards that the map uses, driver and versions."""
    used = {need.device for need in needs_of(map_file)}
    return Lock(
        cards=tuple(
            LockedCard(
                device=card.device,
                name=card.name,
                capacity_bytes=card.capacity_bytes,
                uuid=card.uuid,
                compute_capability=card.compute_capability,
            )
            for card in environment.cards
            if card.device in used
        ),
        driver=environment.driver if environment.cards else None,
        cuda=environment.torch_cuda,
        python=environment.python,
        versions=dict(environment.versions),
    )
