"""The machine and the model at hand beside those of the map, before a byte is loaded.

What differs and matters is an error, what may matter a warning in the log
(``devplan.rules.environment``).  Of a card that a stand-in replaces nothing is asked.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from devplan.core import (
    DISK,
    DeviceMapError,
    DeviceMapFile,
    Environment,
    Finding,
    InputError,
    ModelFacts,
    Severity,
)
from devplan.environment import (
    facts_of_pipeline,
    read_environment,
    remapped,
    renewal_command,
    with_sizes,
)
from devplan.loader.target import Target
from devplan.models import (
    CONFIG_FILE,
    config_hash,
    library_and_class,
    parse_object,
    read_config_text,
)
from devplan.rules import CARD_MISSING, OF_CARDS, OFFLOAD_ROOM, compare_model, differences

log = logging.getLogger("devplan")

_COMMIT = re.compile(r"[0-9a-f]{40}")


def read_here(offload_folder: str | Path | None) -> Environment:
    """This machine."""
    return read_environment(offload_folder or tempfile.gettempdir())


def on_these_cards(target: Target, environment: Environment) -> Target:
    """The same map on the cards that are here, by their capacity.

    Raises
    ------
    InputError
        When the cards do not hold the map, or stand-ins were named beside.
    """
    if target.stand_ins:
        raise InputError("remap= and devices= both say which GPU is which; give one")
    assert target.content is not None
    content = remapped(target.content, environment)
    if content is target.content:
        return target
    entries = {
        key: replace(
            entry,
            device=content.device_map[key],
            written=f"{entry.written} (here {content.device_map[key]})",
        )
        for key, entry in target.entries.items()
    }
    for old, new in _moves(target.content, content):
        log.warning("%s: %s of the map is %s here", target.name, old, new)
    return replace(
        target, entries=entries, content=content, main_device=content.machine.main_device
    )


def _moves(before: DeviceMapFile, after: DeviceMapFile) -> Iterator[tuple[str, str]]:
    moves = {before.device_map[key]: after.device_map[key] for key in before.device_map}
    return ((old, new) for old, new in sorted(moves.items()) if old != new)


def cards_and_releases(target: Target, environment: Environment) -> tuple[Finding, ...]:
    """What differs on this machine, of what the map still asks for once stand-ins are in place."""
    assert target.content is not None
    found = differences(target.content, environment)
    return tuple(_as_warning(each) for each in found if _counts(each, target))


def _as_warning(difference: Finding) -> Finding:
    """Too little disk is no error yet: weights that can be read where they are are not written."""
    if difference.code == OFFLOAD_ROOM and difference.module == DISK:
        return replace(difference, severity=Severity.WARNING)
    return difference


def model_at_hand(target: Target, environment: Environment, folder: Path) -> tuple[Finding, ...]:
    """What differs in the configuration beside the weights; nothing where there is none."""
    assert target.content is not None
    facts = _facts(folder, target.content)
    if facts is None:
        return ()
    remake = f"make the map again: {renewal_command(target.content, environment)}"
    return tuple(compare_model(target.content, facts, remake))


def _facts(folder: Path, content: DeviceMapFile) -> ModelFacts | None:
    if content.model.components:
        facts = facts_of_pipeline(folder, content.model.id)
    elif (folder / CONFIG_FILE).is_file():
        facts = _facts_of_model(folder / CONFIG_FILE, content)
    else:
        return None
    if _COMMIT.fullmatch(content.model.revision or ""):
        facts = replace(facts, revision=_commit(folder))
    return with_sizes(content, facts, folder)


def _facts_of_model(path: Path, content: DeviceMapFile) -> ModelFacts:
    config = parse_object(read_config_text(path), str(path))
    return ModelFacts(
        id=content.model.id,
        config_hash=config_hash(config),
        config=config,
        class_name=library_and_class(config, str(path))[1],
        library="diffusers" if "diffusers" in content.versions else "transformers",
    )


def _commit(folder: Path) -> str | None:
    """Of a folder in huggingface_hub's cache: ``snapshots/<commit>``, or a folder below it."""
    before, _, after = folder.as_posix().rpartition("/snapshots/")
    return after.partition("/")[0] if before else None


def _counts(difference: Finding, target: Target) -> bool:
    if difference.code not in OF_CARDS or not target.stand_ins:
        return True
    cards_left = any(device.startswith("cuda:") for device in target.devices)
    return cards_left and difference.module not in target.stand_ins


def answer_differences(target: Target, found: tuple[Finding, ...], on_difference: str) -> None:
    """Log what may matter, and raise what does.

    Raises
    ------
    DeviceMapError
        One line for each error, with its remedy.
    """
    errors = [each for each in found if each.severity is Severity.ERROR]
    for each in found:
        if each.severity is Severity.WARNING or (each in errors and on_difference == "warn"):
            log.warning("%s", _line(each))
        elif each.severity is Severity.NOTE:
            log.info("%s", _line(each))
    if errors and on_difference != "warn":
        lines = "\n".join(map(_line, errors))
        raise DeviceMapError(
            f"{target.name} cannot be loaded here; nothing was loaded:\n{lines}{_hint(errors)}",
            findings=tuple(errors),
        )


def _line(difference: Finding) -> str:
    remedy = f"; {difference.fix.text}" if difference.fix.text else ""
    return f"{difference.code} {difference.message}{remedy}"


def _hint(errors: list[Finding]) -> str:
    """Without GPUs the hooks can still be tried."""
    if not any(each.code == CARD_MISSING and each.module == "cards" for each in errors):
        return ""
    return '\nwithout GPUs, the CPU may stand in to try the code: devices={"cuda:0": "cpu", ...}'
